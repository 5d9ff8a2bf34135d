"""`replicate data episodes`: the lists that runs are tested on, without a training."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.commands import replicate
from support.ranks import TrialRun

pytestmark = pytest.mark.system

WORDS = ("data", "episodes", "--datasets", "shapes5i")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def listed(cache, tmp_path):
    def run(*words: object) -> list[dict]:
        done = replicate(*WORDS, *words, "--cache-dir", cache, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["lists"]

    return run


def test_every_combination_is_listed_with_the_protocols_own_seed(listed):
    words = ("--folds", "0,2", "--shots", 1, 5, "--first", 3)
    lists = listed("--protocol", "hsnet", *words)
    assert [(entry["fold"], entry["shot"]) for entry in lists] == [(0, 1), (0, 5), (2, 1), (2, 5)]
    assert {entry["test_seed"] for entry in lists} == {0}
    assert {entry["pair_list"] for entry in lists} == {"derived"}
    assert len({entry["episode_list_hash"] for entry in lists}) == 4
    for entry in lists:
        assert entry["test_pairs"] >= entry["test_images"] > 0
        assert entry["test_episodes"] == 1000
        assert [len(episode["supports"]) for episode in entry["first"]] == [entry["shot"]] * 3


def test_without_json_a_table_names_lists_and_episodes(cache, tmp_path, listed):
    words = ("--protocol", "bam", "--folds", 1, "--first", 1)
    (entry,) = listed(*words)
    assert entry["test_seed"] == 321
    shown = replicate(*WORDS, *words, "--cache-dir", cache, cwd=tmp_path).stdout
    assert entry["episode_list_hash"] in shown
    assert entry["first"][0]["query"] in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--datasets", "pascal5i", "--protocol", "hsnet"), "needs a data root"),
        (("--datasets", "shapes5i", "--protocol", "hsnet", "--folds", "4"), "no fold 4"),
        (("--datasets", "shapes5i", "--protocol", "vat"), "choose from"),
        (("--datasets", "shapes5i", "--protocol", "bam", "--shots", "0"), "not 1 or more"),
    ],
)
def test_what_cannot_be_listed_is_said_with_exit_code_2_and_no_output(
    cache, tmp_path, words, message
):
    done = replicate("data", "episodes", *words, "--cache-dir", cache, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_the_same_name_where_one_stands_is_not_taken_for_ours(tmp_path, cache):
    package = tmp_path / "experiments" / "fewshot"
    package.mkdir(parents=True)
    (package / "list_episodes.py").write_text("raise SystemExit(77)")
    words = ("--protocol", "hsnet", "--folds", "0", "--cache-dir", cache)
    assert replicate(*WORDS, *words, cwd=tmp_path).returncode == 0


def test_listing_episodes_loads_no_torch(cache):
    code = (
        "import sys\n"
        "from experiments.fewshot.list_episodes import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(sorted({'torch', 'torchvision', 'timm'} & set(sys.modules)), file=sys.stderr)"
    )
    words = ("--datasets", "shapes5i", "--protocol", "hsnet", "--cache-dir", str(cache))
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_run_under_hsnet_reports_the_listed_episodes_and_the_mean_over_test_seeds(
    cache, tmp_path, listed
):
    config = {
        "dataset": "shapes5i",
        "fold": 1,
        "protocol": "hsnet",
        "image_size": 65,
        "epochs": 1,
        "episodes_per_epoch": 12,
        "global_batch": 6,
        "test_episodes": 40,
        "num_panels": 2,
    }
    words = ("--protocol", "hsnet", "--folds", 1, "--test-episodes", 40)
    results = {}
    for name, seeds in {"own": [], "both": [7, 0]}.items():
        run = TrialRun(tmp_path / name, cache).write_spec({**config, "test_seeds": seeds})
        run.finish(1, world_size=1)
        results[name] = run.result(1)
    own, both = results["own"]["details"], results["both"]["details"]

    (entry,) = listed(*words)
    same = ("episode_list_hash", "test_episodes", "pair_list", "data_fingerprint", "test_images")
    assert {name: own[name] for name in same} == {name: entry[name] for name in same}
    assert own["pair_list_hash"]["test"] == entry["pair_list_hash"]
    assert (own["test_seeds"], own["eval_size"]) == ([0], "resized")
    pixels = [own["final"]["counts"][f"{part}_union"] for part in ("foreground", "background")]
    assert 0 < sum(map(sum, pixels)) <= 2 * 40 * 65 * 65

    assert both["test_seeds"] == [7, 0]
    assert both["final"]["by_test_seed"][1]["counts"] == own["final"]["counts"]
    each = [part["miou"] for part in both["final"]["by_test_seed"]]
    assert results["both"]["metrics"]["miou"] == pytest.approx(sum(each) / 2)
    assert each[1] == results["own"]["metrics"]["miou"]
    assert both["final"]["std"]["miou"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5)
