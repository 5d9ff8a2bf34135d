"""`replicate work`: runs of a frozen plan, without the study file."""

from __future__ import annotations

import json
import shutil

import pytest
from support.commands import replicate

from merge.storage.json_files import read_json

pytestmark = pytest.mark.system


@pytest.fixture
def planned(tmp_path, repository):
    """A folder with the documentation's example planned in `out`, one of its nine runs done."""
    shutil.copytree(repository / "examples" / "bash", tmp_path, dirs_exist_ok=True)
    words = ("--study", "study.yaml", "--output-dir", "out", "--shard", "1/9")
    assert replicate(*words, cwd=tmp_path).returncode == 0
    (tmp_path / "study.yaml").unlink()
    return tmp_path


def counts(folder):
    return json.loads(replicate("status", "out", "--json", cwd=folder).stdout)["counts"]


def test_work_runs_the_named_runs_of_the_plan_and_no_others(planned):
    (planned / "mine.txt").write_text("rate5-seed1\n\nrate20-seed2\n")
    done = replicate("work", "out", "--runs", "mine.txt", "--devices", "cpu:2", cwd=planned)
    assert done.returncode == 0, done.stderr
    assert counts(planned) == {"done": 3, "pending": 6}
    one = replicate("work", "out", "--run", "rate5-seed2", cwd=planned)
    assert one.returncode == 0, one.stderr
    assert counts(planned) == {"done": 4, "pending": 5}
    merged = read_json(planned / "out/replication_results.json")
    assert merged["results"]["rate5"]["n"] == 2


def test_work_without_names_finishes_the_table_and_again_does_nothing(planned):
    assert replicate("work", "out", "--devices", "cpu:2", cwd=planned).returncode == 0
    assert counts(planned) == {"done": 9}
    results = {path: path.read_bytes() for path in planned.glob("out/**/result.json")}
    again = replicate("work", "out", "--devices", "cpu:2", cwd=planned)
    assert again.returncode == 0
    assert again.stderr.count("already done") == 9
    assert {path: path.read_bytes() for path in planned.glob("out/**/result.json")} == results


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("out", "--run", "rate5-seed9"), 2, "did you mean 'rate5-seed"),
        (("out", "--runs", "absent.txt"), 2, "absent.txt cannot be read"),
        (("out", "--runs", "empty.txt"), 2, "names no run"),
        (("elsewhere",), 2, "elsewhere does not exist"),
    ],
)
def test_work_refuses_what_is_not_planned(planned, words, code, told):
    (planned / "empty.txt").write_text("\n")
    refused = replicate("work", *words, cwd=planned)
    assert (refused.returncode, told in refused.stderr) == (code, True), refused.stderr
    assert counts(planned) == {"done": 1, "pending": 8}


def test_work_tells_when_the_code_is_not_the_plans(planned):
    with (planned / "train.sh").open("a") as script:
        script.write("# changed\n")
    done = replicate("work", "out", "--run", "rate5-seed1", cwd=planned)
    assert done.returncode == 0
    assert "the code has changed since out was planned" in done.stderr
    plan = read_json(planned / "out/sweep.json")["code"]["source"]
    assert read_json(planned / "out/rate5/seed1/result.json")["code"]["source"] != plan
