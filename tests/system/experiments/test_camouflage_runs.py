"""Camouflage with two gloo ranks on its generated set: learning, resuming, sweeping, one number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.commands import replicate
from support.evaluate_camouflage import measure
from support.ranks import ROOT, TrialRun, start_ranks, wait_until

from experiments.camouflage.data.pairs import object_of, read_pair
from experiments.camouflage.data.splits import CamouflageData, open_data
from experiments.camouflage.measures.scores import image_scores, mean_scores
from experiments.camouflage.options import DataOptions
from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

GOLDEN: dict[str, Any] = json.loads((ROOT / "tests" / "golden" / "camouflage.json").read_text())
CONFIG: dict[str, Any] = GOLDEN["config"]
STUDIES = ROOT / "replicate" / "studies"
WORDS = ("-m", "experiments.runtime", "camouflage")
MEASURES = {"iou", "s_alpha", "weighted_f", "mae", "e_mean", "e_max", "e_adaptive"}


def start(run: TrialRun, attempt: int, num_ranks: int = 2, **more: str):
    return run.start(attempt, num_ranks, *WORDS, **more)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache) -> TrialRun:
    run = TrialRun(tmp_path_factory.mktemp("runs") / "undisturbed", cache).write_spec(CONFIG)
    ranks = start(run, 1)
    assert ranks.wait(200) == 0, ranks.output()
    return run


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the ranks have it: sums of several threads may differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_ranks_learn_and_beat_what_needs_no_image(undisturbed, cache):
    result = undisturbed.result(1)
    details = result["details"]
    assert result["metrics"].keys() == MEASURES
    data = open_data(DataOptions(dataset="tiny_cod10k"), None, cache)
    mean_mask, black = _trivial(data)
    for name in ("s_alpha", "iou", "weighted_f"):
        learnt = result["metrics"][name]
        assert learnt > details["untrained"][name] + 0.25
        assert learnt > max(mean_mask[name], black[name]) + 0.1
    assert result["metrics"]["mae"] < min(black["mae"], mean_mask["mae"]) - 0.03


def _trivial(data: CamouflageData) -> tuple[dict[str, float], dict[str, float]]:
    """The scores of the mean training mask, and of a map that is black everywhere."""
    size = (64, 64)
    masks = [np.asarray(read_pair(pair)[1].resize(size), np.float64) for pair in data.train]
    mean_mask = Image.fromarray(np.mean(masks, axis=0).astype(np.uint8))
    truths = [object_of(read_pair(pair)[1]) for pair in data.test]
    means = [
        image_scores(np.asarray(mean_mask.resize(truth.shape[::-1])), truth) for truth in truths
    ]
    blacks = [image_scores(np.zeros(truth.shape, np.uint8), truth) for truth in truths]
    return mean_scores(np.array(means)), mean_scores(np.array(blacks))


def test_the_best_epoch_is_the_best_on_validation_images(undisturbed):
    details = undisturbed.result(1)["details"]
    assert details["validation_images"] == 5
    assert details["train_images"] == 43
    evaluated = [entry for entry in details["history"] if "s_alpha" in entry]
    chosen = max(evaluated, key=lambda entry: entry["validation_s_alpha"])
    assert details["best"]["epoch"] == chosen["epoch"]
    assert details["eval_size"] == "original"


def test_the_saved_model_is_the_average_that_was_evaluated(undisturbed, one_thread):
    """To the last bit, on 1 rank as on the 2 that trained."""
    assert measure(undisturbed.environment(1)) == undisturbed.result(1)["metrics"]
    trained = undisturbed.last_checkpoint()["model"]
    best = torch.load(undisturbed.folder / "checkpoints" / "best.pt", weights_only=True)["model"]
    routers = [name for name in trained if "router" in name]
    assert len(routers) == 3
    assert all(not torch.equal(trained[name], best[name]) for name in routers)


def test_three_ranks_measure_the_same_to_the_last_bit(undisturbed, tmp_path):
    """19 images: 7, 6 and 6 of them."""
    program = str(ROOT / "tests" / "support" / "evaluate_camouflage.py")
    ranks = start_ranks((program,), 3, undisturbed.environment(1), tmp_path / "log")
    assert ranks.wait(120) == 0, ranks.output()
    found = json.loads(next(line for line in ranks.output().splitlines() if line[:1] == "{"))
    assert found == undisturbed.result(1)["metrics"]


def test_a_run_killed_at_the_boundary_of_its_stages_goes_on_bit_for_bit(
    undisturbed, tmp_path, cache
):
    run = TrialRun(tmp_path / "killed", cache).write_spec(CONFIG)
    ranks = start(run, 1)
    wait_until(lambda: run.has_event(1, "stage"), ranks, timeout_s=200)
    ranks.kill()
    assert not (run.attempt(1) / "result.json").exists()
    ranks = start(run, 2)
    assert ranks.wait(200) == 0, ranks.output()
    begun = run.events(2)[0]
    assert begun["epoch"] in (1, 2)
    ours, theirs = run.result(2), undisturbed.result(1)
    assert ours["metrics"] == theirs["metrics"]
    for name in ("untrained", "best", "final", "history"):
        assert ours["details"][name] == theirs["details"][name]
    mine, other = (each.last_checkpoint()["model"] for each in (run, undisturbed))
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_the_frozen_number(undisturbed):
    """What other vector instructions change is in tests/golden/camouflage.json as tolerances."""
    result = undisturbed.result(1)
    tolerance = GOLDEN["tolerance"]
    losses = [entry["loss"] for entry in result["details"]["history"]]
    assert losses == pytest.approx(GOLDEN["losses"], rel=tolerance["loss"])
    assert result["metrics"] == pytest.approx(GOLDEN["metrics"], abs=tolerance["metrics"])
    for name in ("validation_hash", "test_list_hash"):
        assert result["details"][name] == GOLDEN[name]


def test_a_sweep_over_two_by_two_is_merged_and_reported(tmp_path, cache):
    study = (STUDIES / "camouflage_demo.yaml").read_text()
    study = study.replace("devices_per_run: 2", "devices_per_run: 1")  # two runs at a time
    (tmp_path / "study.yaml").write_text(study)
    changes = {"epochs": 2, "decoder_epochs": 1, "images_per_epoch": 8, "eval_every": 2}
    small = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    words = ("--study", "study.yaml", "--backbones", "test_convnext", "--where", "num_experts=2,7")
    places = ("--devices", "cpu:2", "--cache-dir", cache, "--output-dir", "out")
    done = replicate(*words, *places, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cells = read_json(tmp_path / "out" / "replication_results.json")["results"]
    assert set(cells) == {f"tiny_cod10k_test_convnext_{number}experts" for number in (2, 7)}
    for cell in cells.values():
        assert (cell["complete"], cell["folds"]) == (True, ["0", "1"])
        assert cell["mean"].keys() == MEASURES
    reported = replicate("report", "out", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    page = (tmp_path / "out" / "report.md").read_text()
    assert "camouflaged object segmentation" in page
    assert "tiny_cod10k_test_convnext_7experts" in page
    assert "Test images: image, truth, map" in page


if torch.cuda.is_available():  # no skip: a machine without a GPU has nothing to run here

    @pytest.mark.parametrize("backbone", ["test_convnext", "edgenext_base"])
    def test_one_epoch_of_each_stage_on_a_cuda_device(tmp_path, cache, backbone):
        changes = {"epochs": 2, "decoder_epochs": 1, "checkpoint_activations": True}
        config = {**CONFIG, **changes, "backbone": backbone, "eval_every": 1}
        run = TrialRun(tmp_path / "run", cache).write_spec(config)
        ranks = start(run, 1, 1, PAPERGRID_DEVICE="cuda")
        assert ranks.wait(200) == 0, ranks.output()
        details = run.result(1)["details"]
        assert (details["device"], details["amp"]) == ("cuda", "bf16")
        assert details["history"][1]["loss"] < details["history"][0]["loss"]
