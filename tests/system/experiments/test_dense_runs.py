"""Whole trainings of the dense tasks: two ranks learn, are killed and go on, and are swept."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch
from support.commands import replicate
from support.ranks import ROOT, TrialRun, wait_until

from experiments.dense.options import Options
from experiments.dense.tally import Detections
from experiments.dense.task import open_task
from experiments.runtime.checkpoint import load_checkpoint
from experiments.runtime.distributed import Ranks
from experiments.runtime.evaluate import evaluate
from experiments.runtime.learner import load_trained_state
from experiments.runtime.opening import build_seeded_model
from experiments.runtime.options import build
from experiments.runtime.precision import Precision
from experiments.runtime.run_context import read_context
from experiments.runtime.stop import StopRequest
from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

TRAINER = ("-m", "experiments.runtime", "dense")
GOLDEN = ROOT / "tests" / "golden" / "dense.json"
LOSS_TOLERANCE = 1e-6
PIXELS = 20
"""Of 130,000 that are counted: other vector instructions round in another way."""

TINY = {
    "backbone": "tiny",
    "from_scratch": True,
    "optimizer": "adamw",
    "lr": 0.01,
    "global_batch": 4,
    "tensorboard": False,
}
DETECTION = {
    **TINY,
    "task": "detection",
    "model": "faster_rcnn",
    "dataset": "shapes3_coco",
    "short_side": 64,
    "num_proposals": 50,
    "epochs": 4,
    "eval_every": 4,
    "checkpoint_every_steps": 3,
}
"""15 steps an epoch; the 31 test images divide into no two equal shares."""

CLASSIFICATION = {
    **TINY,
    "task": "classification",
    "model": "classifier",
    "dataset": "shapes5",
    "short_side": 40,
    "crop_size": 36,
    "epochs": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def new_run(folder):
    def make(name: str, config: dict[str, object]) -> TrialRun:
        return TrialRun(folder / name, folder / "cache").write_spec(config)

    return make


def finished(run: TrialRun, attempt: int, world_size: int, **more: str):
    ranks = run.start(attempt, world_size, *TRAINER, **more)
    assert ranks.wait(200) == 0, ranks.output()
    return run.result(attempt)


@pytest.fixture(scope="module")
def segmentation(new_run):
    """The run whose numbers are frozen."""
    run = new_run("segmentation", json.loads(GOLDEN.read_text())["config"])
    finished(run, 1, 2)
    return run


@pytest.fixture(scope="module")
def detection(new_run):
    """A run on two ranks that nothing happened to."""
    run = new_run("detection", DETECTION)
    finished(run, 1, 2)
    return run


def opened(run: TrialRun):
    context = read_context(run.environment(1))
    return context, open_task(build(Options, context.config), context)


def test_two_ranks_learn_segmentation_beyond_the_most_frequent_class(segmentation):
    details = segmentation.result(1)["details"]
    _, task = opened(segmentation)
    background, data = task.tally("test"), task.eval_data("test")
    for index in range(len(data)):
        labels = data[index].labels
        background.add(index, np.zeros_like(labels), data[index])
    trivial = background.metrics(background.state())["miou"]
    assert details["best"]["miou"] > max(trivial, details["untrained"]["miou"]) + 0.1
    assert sum(v is not None for v in details["best"]["iou_per_class"].values()) >= 4


def test_segmentation_gives_the_frozen_numbers(segmentation):
    golden, details = json.loads(GOLDEN.read_text()), segmentation.result(1)["details"]
    losses = [entry["loss"] for entry in details["history"]]
    assert losses == pytest.approx(golden["losses"], rel=LOSS_TOLERANCE)
    assert details["final"]["pixel_accuracy"] == pytest.approx(
        golden["pixel_accuracy"], abs=PIXELS / 130_000
    )
    for key in ("test_list_hash", "num_parameters"):
        assert details[key] == golden[key]


def test_the_result_has_the_memory_of_the_ranks_and_both_batches(segmentation):
    details = segmentation.result(1)["details"]
    assert (details["global_batch"], details["world_size"], details["micro_batch"]) == (4, 2, 2)
    by_rank = details["peak_memory_mb_by_rank"]["host"]
    assert len(by_rank) == 2
    assert max(by_rank) == details["peak_memory_mb"]["host"] > 0
    assert details["evenness"]["host"] == pytest.approx(min(by_rank) / max(by_rank), abs=1e-4)


def test_two_ranks_learn_detection_beyond_a_box_that_is_always_the_same(detection):
    details = detection.result(1)["details"]
    _, task = opened(detection)
    boxes = [o for image in task.data.train.images for o in image.objects]
    mean = np.mean([found.box for found in boxes], axis=0)[None]
    categories = [found.category_id for found in boxes]
    frequent = np.array([max(set(categories), key=categories.count)])
    same, data = task.tally("test"), task.eval_data("test")
    for index in range(len(data)):
        same.add(index, Detections(mean, np.ones(1), frequent), None)
    trivial = same.metrics(same.state())["map"]
    assert details["best"]["map"] > 3 * max(trivial, details["untrained"]["map"])
    assert details["best"]["map"] > 0.05
    assert set(details["best"]["ap_per_category"]) == {"airplane", "bicycle", "bird"}


def test_detection_that_is_killed_goes_on_bit_for_bit(new_run, detection):
    run = new_run("killed", DETECTION)
    ranks = run.start(1, 2, *TRAINER)
    # Inside the second epoch, after its first checkpoint.
    wait_until(lambda: run.has_event(1, "checkpoint", epoch=1, step=3), ranks, 120)
    ranks.signal_ranks(signal.SIGKILL)
    assert ranks.wait(60) != 0
    assert not (run.attempt(1) / "result.json").exists()
    ours, theirs = finished(run, 2, 2), detection.result(1)
    assert run.events(2)[0]["epoch"] >= 1
    assert ours["metrics"] == theirs["metrics"]
    for name in ("untrained", "best", "final", "history"):
        assert ours["details"][name] == theirs["details"][name]
    model, other = run.last_checkpoint()["model"], detection.last_checkpoint()["model"]
    assert [name for name in model if not torch.equal(model[name], other[name])] == []


def test_one_rank_measures_the_ap_of_two(detection):
    """Over the boxes of all ranks: a mean of two ranks' APs would be another number."""
    context, task = opened(detection)
    alone = Ranks(0, 0, 1, torch.device("cpu"))
    model = build_seeded_model(task, alone)
    state = load_checkpoint(context.run.best_checkpoint, alone, config_hash="c0ffee")
    load_trained_state(task, model, state["model"])
    rows = evaluate(
        task,
        "test",
        model,
        ranks=alone,
        precision=Precision("off", alone.device),
        num_workers=0,
        stop=StopRequest(),
    )
    assert task.tally("test").metrics(rows) == detection.result(1)["metrics"]
    saved = state["evaluation"]["states"]["test"].numpy()
    assert (rows == saved).all()


FROZEN = {
    "task": "detection",
    "model": "retinanet",
    "backbone": "efficientnet_lite0",
    "variant": "frozen_backbone",
    "dataset": "shapes3_voc",
    "short_side": 64,
    "epochs": 1,
    "num_train_images": 8,
    "num_test_images": 3,
    "global_batch": 4,
    "tensorboard": False,
}
ON_CUDA = torch.cuda.is_available()
EPOCHS = [FROZEN, *([{**DETECTION, "epochs": 1}, CLASSIFICATION] if ON_CUDA else [])]


@pytest.mark.parametrize("config", EPOCHS, ids=lambda config: config["model"])
def test_one_epoch_on_a_gpu_where_there_is_one(new_run, config):
    run = new_run(f"epoch-{config['model']}", config)
    result = finished(run, 1, 1, PAPERGRID_DEVICE="cuda" if ON_CUDA else "cpu")
    details = result["details"]
    assert details["device"] == ("cuda" if ON_CUDA else "cpu")
    assert details["history"][0]["loss"] > 0
    if config is FROZEN:
        names = run.last_checkpoint()["model"]
        assert names
        # The backbone is that of its weight file, so no checkpoint carries it.
        assert not [name for name in names if ".body." in name]


STUDY = """
name: shapes
experiment: dense
axes: {lr: [0.01, 0.000001], seed: [0, 1]}
average_over: seed
metric: top1
cell: "lr{lr}"
run_path: "{cell}/seed{seed}"
fixed: {task: classification, model: classifier, dataset: shapes5, backbone: tiny,
        from_scratch: true, optimizer: adamw, global_batch: 8, epochs: 2, short_side: 40,
        crop_size: 36, area_min: 0.5, tensorboard: false, eval_chunk: 16}
resources: {device: cpu, devices_per_run: 1, num_workers: 0}
"""


def test_classification_is_swept_over_rates_and_seeds_merged_and_reported(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    done = replicate("--study", "study.yaml", "--devices", "cpu:2", cwd=tmp_path, timeout_s=250)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "outputs" / "study"
    cells = read_json(output / "replication_results.json")["results"]
    assert {name: cell["complete"] for name, cell in cells.items()} == {
        "lr0.01": True,
        "lr1e-06": True,
    }
    frequent = 30 / 101
    assert cells["lr0.01"]["mean"]["top1"] > frequent + 0.1
    assert cells["lr0.01"]["mean"]["top1"] > cells["lr1e-06"]["mean"]["top1"] + 0.1
    assert (output / "report.md").is_file()
    for seed in (0, 1):
        result = read_json(output / "lr0.01" / f"seed{seed}" / "result.json")
        assert result["metrics"]["top1"] > result["details"]["untrained"]["top1"]
        assert result["details"]["test_images"] == 101
    again = replicate("--study", "study.yaml", "--devices", "cpu:2", cwd=tmp_path, timeout_s=60)
    assert again.returncode == 0, again.stderr
