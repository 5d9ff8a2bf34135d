"""ImageNet classification on the generated set: a sweep of two ranks a run, a kill, weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.commands import replicate
from support.ranks import ROOT, TrialRun

from experiments.datasets.shape_images import NUM_IMAGES, ensure_shapes5
from experiments.runtime.progress import Evaluation
from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

GOLDEN = ROOT / "tests" / "golden" / "imagenet.json"
MAJORITY = NUM_IMAGES["val"][0] / sum(NUM_IMAGES["val"])
SIZES = (32, 32, 32, 32, 40, 48, 48, 48)
"""Sides by epoch: those of the study, then the FixRes stage at the test size."""

RECORDING = """
import json, os, signal
from experiments.imagenet.task import ImagenetTask
from experiments.runtime.__main__ import main

rank, folder = os.environ.get("RANK", "0"), os.environ["PAPERGRID_ATTEMPT_DIR"]
forward, train_data = ImagenetTask.forward, ImagenetTask.train_data

def recorded_forward(task, model, batch):
    with open(f"{folder}/steps{rank}.jsonl", "a") as file:
        print(json.dumps([task.epoch, *batch[0].shape]), file=file)
    return forward(task, model, batch)

def recorded_data(task, epoch):
    task.epoch = epoch
    if rank == "0" and str(epoch) == os.environ.get("KILL_IN_EPOCH"):
        os.kill(os.getpid(), signal.SIGKILL)
    return train_data(task, epoch)

ImagenetTask.forward, ImagenetTask.train_data = recorded_forward, recorded_data
main()
"""
"""The trainer; each rank writes down the epoch and the shape of every batch."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> tuple[Path, str]:
    """The output folder of the four runs, and what the command printed."""
    folder = tmp_path_factory.mktemp("imagenet")
    done = replicate(
        *("--study", "imagenet_demo", "--output-dir", "out", "--cache-dir", "cache"), cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def result_of(output: Path, cell: str, seed: int) -> dict[str, Any]:
    return read_json(output / cell / f"seed{seed}" / "result.json")


def test_two_by_two_runs_of_two_ranks_learn_are_merged_and_reported(sweep):
    output, printed = sweep
    merged = read_json(output / "replication_results.json")["results"]
    for cell in ("fixres0", "fixres2"):
        assert merged[cell]["complete"]
        assert cell in printed
        assert cell in (output / "report.md").read_text()
        for seed in (0, 1):
            result = result_of(output, cell, seed)
            details, metrics = result["details"], result["metrics"]
            assert details["world_size"] == 2
            assert details["test_images"] == 101
            assert metrics["top1"] > MAJORITY + 0.2
            assert metrics["top1"] > details["untrained"]["top1"] + 0.3
            assert metrics["f1"] > details["untrained"]["f1"] + 0.2
            assert metrics["test_loss"] < details["untrained"]["test_loss"]
    assert merged["fixres0"]["mean"]["top1"] > MAJORITY + 0.3


def test_the_final_epoch_is_the_last_one(sweep):
    details = result_of(sweep[0], "fixres2", 0)["details"]
    assert details["reported"] == "final"
    assert details["final"]["epoch"] == 8
    assert [entry["epoch"] for entry in details["history"]] == list(range(1, 9))


def test_the_log_shows_loss_accuracy_and_f1_of_training_and_test(sweep):
    """Over both ranks: 200 crops in an epoch, of which a whole number is right."""
    run = sweep[0] / "fixres2" / "seed0"
    lines = (run / "training.log").read_text().splitlines()
    assert len([line for line in lines if " | Learning Rate: " in line]) == 8
    entry = result_of(sweep[0], "fixres2", 0)["details"]["history"][3]
    train = f"Loss: {entry['loss']:.4f}, Acc: {entry['train_acc']:.4f}, F1: {entry['train_f1']:.4f}"
    assert f"EPOCH 4 TRAIN - {train}" in lines
    assert f"EPOCH 4 TEST - Top1: {entry['top1']:.4f}" in "\n".join(lines)
    assert entry["train_acc"] * 200 == pytest.approx(round(entry["train_acc"] * 200))
    assert lines[-1] == "Final epoch 8; best epoch " + lines[-1].rpartition(" ")[2]


def test_the_numbers_are_the_frozen_ones(sweep):
    """Other vector instructions move the losses of two epochs by 3e-8 of their value, and by 3e-3
    in the end, as batch norm and ReLU multiply the difference."""
    golden = json.loads(GOLDEN.read_text())
    for cell in ("fixres0", "fixres2"):
        result = result_of(sweep[0], cell, 0)
        frozen = golden[cell]
        losses = [entry["loss"] for entry in result["details"]["history"]]
        assert losses[:2] == pytest.approx(frozen["losses"][:2], rel=1e-6)
        assert losses == pytest.approx(frozen["losses"], rel=2e-2)
        for name in ("top1", "f1"):
            assert result["metrics"][name] == pytest.approx(frozen["metrics"][name], abs=0.06)


@pytest.fixture(scope="module")
def killed(sweep) -> TrialRun:
    """The run fixres2, seed 0, again: rank 0 is killed as the images grow, then it goes on."""
    folder = sweep[0].parent
    planned = read_json(sweep[0] / "fixres2" / "seed0" / "run.json")
    trainer = folder / "trainer.py"
    trainer.write_text(RECORDING)
    run = TrialRun(folder / "killed", folder / "cache").write_spec(planned["config"])
    ranks = run.start(1, 2, str(trainer), "imagenet", KILL_IN_EPOCH="4")
    assert ranks.wait(120) != 0
    assert not (run.attempt(1) / "result.json").exists()
    ranks = run.start(2, 2, str(trainer), "imagenet")
    assert ranks.wait(120) == 0, ranks.output()
    return run


def test_a_run_killed_as_the_images_grow_goes_on_bit_for_bit(sweep, killed):
    undisturbed, resumed = result_of(sweep[0], "fixres2", 0), killed.result(2)
    assert killed.events(2)[0]["epoch"] == 4
    assert resumed["metrics"] == undisturbed["metrics"]
    for name in ("untrained", "best", "final", "history"):
        assert resumed["details"][name] == undisturbed["details"][name]
    path = sweep[0] / "fixres2" / "seed0" / "checkpoints" / "last.pt"
    theirs = torch.load(path, weights_only=True)["model"]
    ours = killed.last_checkpoint()["model"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_images_grow_in_the_very_epoch_that_is_set_on_every_rank(killed):
    """The original's grew one epoch late: its loaders were made before the size was set."""
    for rank in (0, 1):
        lines = [
            json.loads(line)
            for attempt in (1, 2)
            for line in (killed.attempt(attempt) / f"steps{rank}.jsonl").read_text().splitlines()
        ]
        assert lines == [
            [epoch, 10, 3, side, side] for epoch, side in enumerate(SIZES) for _ in range(10)
        ]


def test_every_test_image_is_scored_once_by_two_ranks(sweep):
    """101 images and two ranks: a share of each rank left out, or padded, would show here."""
    path = sweep[0] / "fixres2" / "seed0" / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)["progress"]["final"]
    rows = Evaluation.from_state(state).states["test"]
    assert rows.shape == (101, 4)
    assert (rows[:, 0] == 1).all()


def test_published_weights_are_tested_by_one_command_as_torchvision_tests_them(tmp_path):
    """A file of the form of torchvision's; its top-1 by torchvision's own transforms."""
    from PIL import Image
    from torchvision.models import resnet18
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    torch.manual_seed(3)
    network = resnet18(num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    done = replicate(
        *("--study", "imagenet_weights", "--output-dir", "out", "--weights", "mine.pth"),
        *("--where", "network=resnet18", "--cache-dir", "cache", "--devices", "cpu:1"),
        *("--set", "dataset=shapes5", "--set", "test_size=56", "--set", "eval_chunk=7"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    result = read_json(tmp_path / "out" / "resnet18" / "seed0" / "result.json")
    recipe = Compose(
        [
            *(Resize(64), CenterCrop(56), ToTensor()),
            Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    files = sorted((ensure_shapes5(tmp_path / "cache") / "val").glob("*/*.JPEG"))
    images = torch.stack([recipe(Image.open(file).convert("RGB")) for file in files])
    with torch.inference_mode():
        predicted = network(images).argmax(1)
    labels = torch.tensor([label for label, n in enumerate(NUM_IMAGES["val"]) for _ in range(n)])
    assert result["metrics"]["top1"] == float((predicted == labels).double().mean())
    assert result["details"]["weights"].startswith("mine.pth sha256:")
    assert result["details"]["test_images"] == 101


if torch.cuda.is_available():

    def test_an_epoch_trains_on_a_cuda_device(tmp_path):
        config = {"epochs": 2, "lr": 0.05, "channels_last": True, "first_size": 48, "last_size": 48}
        run = TrialRun(tmp_path / "run", tmp_path / "cache").write_spec(config)
        ranks = run.start(1, 1, "-m", "experiments.runtime", "imagenet", PAPERGRID_DEVICE="cuda")
        assert ranks.wait(200) == 0, ranks.output()
        details = run.result(1)["details"]
        assert details["device"] == "cuda"
        assert details["history"][-1]["loss"] < details["history"][0]["loss"]
