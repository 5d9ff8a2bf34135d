"""The `replicate` command as a person types it, on a real sweep of a shell script."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.commands import MarkedCommand, replicate

from merge.storage.json_files import canonical_json, read_json
from replicate import api

pytestmark = pytest.mark.system

CELLS = ("rate1", "rate5", "rate20")


@pytest.fixture
def folder(tmp_path, repository) -> Path:
    """A fresh folder with the example of the documentation."""
    shutil.copytree(repository / "examples" / "bash", tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_sweep_is_planned_run_shown_and_merged(folder):
    planned = replicate("plan", "--study", "study.yaml", "--json", cwd=folder)
    runs = [run for shard in json.loads(planned.stdout)["shards"] for run in shard["runs"]]
    assert len(runs) == 9
    assert not (folder / "outputs").exists()

    done = replicate("--study", "study.yaml", "--devices", "cpu:3", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "rate20" in done.stdout
    assert all((folder / run["folder"] / "result.json").is_file() for run in runs)

    status = json.loads(replicate("status", "outputs/study", "--json", cwd=folder).stdout)
    assert status["counts"] == {"done": 9}
    merged = read_json(folder / "outputs/study/replication_results.json")
    assert {cell: merged["results"][cell]["n"] for cell in CELLS} == dict.fromkeys(CELLS, 3)
    assert status["merged"] == merged

    again = replicate("merge", "outputs/study", cwd=folder)
    assert again.returncode == 0
    assert done.stdout.splitlines()[1] in again.stdout


def test_the_sweep_in_parts_equals_the_sweep_at_once(folder):
    for words in (("--where", "seed=0"), ("--shard", "2/2"), ()):
        part = replicate("--study", "study.yaml", "--output-dir", "parts", *words, cwd=folder)
        assert part.returncode == 0, part.stderr
    whole = replicate("--study", "study.yaml", "--output-dir", "whole", cwd=folder)
    assert whole.returncode == 0
    merged = [read_json(folder / out / "replication_results.json") for out in ("parts", "whole")]
    assert canonical_json(merged[0]["results"]) == canonical_json(merged[1]["results"])
    assert merged[0]["runs"].keys() == merged[1]["runs"].keys()


def test_a_part_of_the_sweep_is_shown_as_incomplete_and_never_as_a_mean(folder):
    done = replicate("--study", "study.yaml", "--where", "seed=0,2", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.count("incomplete: rate") == 3
    merged = read_json(folder / "outputs/study/replication_results.json")
    assert merged["results"]["rate5"]["mean"] is None
    assert replicate("merge", "outputs/study", cwd=folder).returncode == 3


def test_another_configuration_in_the_same_folder_is_refused_with_the_difference(folder):
    first = replicate("--study", "study.yaml", "--where", "seed=0", cwd=folder)
    assert first.returncode == 0
    before = (folder / "outputs/study/sweep.json").read_bytes()
    other = replicate("--study", "study.yaml", "--set", "steps=50", cwd=folder)
    assert other.returncode == 2
    assert "steps: 40 -> 50" in other.stderr
    assert "--output-dir" in other.stderr
    assert (folder / "outputs/study/sweep.json").read_bytes() == before


def test_code_that_changed_since_the_plan_is_told_and_flagged_in_the_table(folder):
    first = replicate("--study", "study.yaml", "--where", "seed=0", cwd=folder)
    assert "has changed since" not in first.stderr
    with (folder / "train.sh").open("a") as script:
        script.write("# another version\n")
    then = replicate("--study", "study.yaml", cwd=folder)
    assert then.returncode == 0
    assert "the code has changed since outputs/study was planned: source" in then.stderr
    assert "not comparable: rate5: code.source differs between 0" in then.stdout


def test_a_damaged_plan_names_the_fix_and_the_fix_loses_nothing(folder):
    words = ("--study", "study.yaml")
    assert replicate(*words, cwd=folder).returncode == 0
    plan, view = (folder / "outputs/study" / n for n in ("sweep.json", "replication_results.json"))
    merged = view.read_bytes()
    plan.write_text("garbage")
    refused = replicate(*words, cwd=folder)
    assert refused.returncode == 1
    assert "move it away" in refused.stderr
    plan.unlink()
    assert replicate(*words, cwd=folder).returncode == 0
    assert view.read_bytes() == merged
    assert len(list(folder.glob("outputs/study/*/*/attempts/*"))) == 9


def test_two_people_who_run_the_same_sweep_at_once_make_each_result_once(folder):
    words = ("--study", "study.yaml", "--devices", "cpu:2")
    slow = {"STEP_SECONDS": "0.02"}
    with ThreadPoolExecutor(2) as people:
        both = [people.submit(replicate, *words, cwd=folder, env=slow) for _ in range(2)]
    assert {done.result().returncode for done in both} <= {0, 3}
    assert replicate(*words, cwd=folder).returncode == 0
    attempts = list(folder.glob("outputs/study/rate*/seed*/attempts/*"))
    assert len(attempts) == 9
    assert not list(folder.glob("outputs/study/rate*/seed*/result.aside-*"))
    assert (
        read_json(folder / "outputs/study/replication_results.json")["results"]["rate1"]["n"] == 3
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--datasets", "pascal"), "did you mean 'pascal5i'"),
        (("--folds", "7"), "choices: 0, 1, 2, 3"),
        (("--where", "seed=1"), "unknown axis 'seed'"),
        (("--set", "epohcs=1"), "did you mean 'epochs'"),
        (("--set", "epochs=many"), "epochs"),
        (("--set", "fold=1"), "fold"),
        (("--study", "abbc"), "built-in studies: abcb, "),
        (("--study", "."), "is a folder"),
        (("--shard", "5/4"), "counted from 1"),
        (("--shard-by", "dataset", "--shard", "1/4"), "1/2"),
        (("--devices", "0"), "--devices cpu"),
        (("--devices-per-run", "3"), "does not divide the global batch 16"),
        (("rnu",), "did you mean 'run'"),
        (("--dataset", "pascal5i"), "did you mean '--datasets'?"),
        (("plan", "--shards", "many"), "argument --shards: invalid int value"),
        (("merge",), "required: OUT"),
    ],
)
def test_a_bad_command_says_what_to_do_and_writes_nothing(tmp_path, words, message):
    done = replicate(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_lets_the_runs_stop_and_the_same_command_finishes(folder):
    words = ("--study", "study.yaml", "--devices", "cpu:2", "--where", "rate=5")
    command = MarkedCommand(words, cwd=folder, env={"STEP_SECONDS": "0.1"})
    process = command.start(folder / "log.txt")
    deadline = time.monotonic() + 90
    while len(list(folder.glob("outputs/*/*/*/attempts/*/events.jsonl"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 130
    assert command.processes() == []
    assert len(list(folder.glob("outputs/*/*/*/checkpoint"))) == 2
    assert not list(folder.glob("outputs/*/*/*/result.json"))
    assert replicate(*words, cwd=folder).returncode == 0
    merged = read_json(folder / "outputs/study/replication_results.json")
    assert merged["results"]["rate5"]["complete"]


@pytest.mark.parametrize("damage", ["", '{"schema": 1, "metr', "[]"])
def test_a_damaged_result_is_named_left_alone_and_not_counted(folder, damage):
    assert replicate("--study", "study.yaml", cwd=folder).returncode == 0
    damaged = folder / "outputs/study/rate5/seed1/result.json"
    damaged.write_text(damage)
    done = replicate("--study", "study.yaml", cwd=folder)
    assert done.returncode == 1
    assert "rate5/seed1/result.json" in done.stderr
    assert damaged.read_text() == damage
    merged = replicate("merge", "outputs/study", "--json", cwd=folder)
    assert merged.returncode == 1
    assert json.loads(merged.stdout)["results"]["rate5"]["missing"] == ["1"]
    status = json.loads(replicate("status", "outputs/study", "--json", cwd=folder).stdout)
    assert status["counts"] == {"done": 8, "unknown": 1}


def test_the_python_door_does_what_the_verbs_do(folder, monkeypatch):
    monkeypatch.chdir(folder)
    plan = api.plan("study.yaml", where={"rate": ["5"]})
    report = api.run(plan, "out", api.local_settings(plan, devices="cpu:2"))
    assert report.exit_code == 0
    results = api.read_results("out")
    assert {result.axes["seed"] for result in results.values()} == {0, 1, 2}
    merged = api.merge("out")
    losses = [result.metrics["loss"] for result in results.values()]
    assert merged.document["results"]["rate5"]["mean"]["loss"] == pytest.approx(sum(losses) / 3)
    assert api.report("out")["md"].read_text().count("rate5-seed") == 3
    status = api.status("out")
    assert sum(entry.state.state == "done" for entry in status.runs) == 3


def test_what_cannot_be_printed_for_a_full_disk_is_told_without_a_traceback(folder):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "replicate.cli.main", "plan", "--study", "study.yaml"],
            cwd=folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 75
    assert done.stderr == "replicate: the disk is full: what is printed could not be written\n"


@pytest.mark.parametrize(
    ("forms", "told"), [("pdf", "unknown form 'pdf'"), (",", "no form of a report is named")]
)
def test_a_report_in_no_known_form_is_refused(folder, forms, told):
    assert replicate("--study", "study.yaml", "--where", "rate=1", cwd=folder).returncode == 0
    refused = replicate("report", "outputs/study", "--forms", forms, cwd=folder)
    assert refused.returncode == 2
    assert told in refused.stderr
