"""Stages, sizes, data and weights of a run, and what its check finds."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score

from experiments.datasets.image_folder import ImageFolder
from experiments.datasets.shape_images import ensure_shapes5
from experiments.imagenet.check import problems
from experiments.imagenet.data import open_data
from experiments.imagenet.model import BlurredConv, build_classifier, build_network, last_norm
from experiments.imagenet.options import (
    AugmentationOptions,
    DataOptions,
    FixResOptions,
    ModelOptions,
    Options,
    SizeOptions,
)
from experiments.imagenet.task import FIXRES, ImagenetTask
from experiments.runtime.check import Places
from experiments.runtime.image_sizes import check_image_size
from experiments.runtime.loaders import LoaderSettings
from experiments.runtime.options import RuntimeOptions
from experiments.runtime.samplers import TrainSampler
from experiments.runtime.stages import Timetable
from experiments.runtime.train_loader import TrainLoader
from merge.errors import DataError, UsageError

GROWING = Options(
    sizes=SizeOptions(
        first_size=16, last_size=32, ramp_start=1, ramp_end=3, size_step=8, test_size=40
    ),
    fixres=FixResOptions(epochs=2),
    runtime=RuntimeOptions(epochs=6, global_batch=20),
)
SIZES = (16, 16, 24, 32, 40, 40)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    ensure_shapes5(folder)
    return folder


def task_of(options: Options, cache: Path) -> ImagenetTask:
    context = type("Context", (), {"weights": None})()
    return ImagenetTask(options, context, open_data(options, None, cache))


def shapes_by_epoch(
    task: ImagenetTask, *, num_workers: int = 0, late_by: int = 0
) -> list[tuple[int, ...]]:
    """The shape of a real batch of each epoch, checked as the runtime checks it.

    `late_by`: the images of an earlier epoch come, as from the original's loaders.
    """
    stages, found = Timetable(task.stages(), epochs=6), []
    sampler = TrainSampler(200, global_batch=20, rank=0, world_size=1, seed=0)
    settings = LoaderSettings(num_workers=num_workers, timeout_s=30)

    def data_of(epoch: int) -> object:
        return task.train_data(max(0, epoch - late_by))

    task.stage = stages.at(0)
    loader = TrainLoader(data_of, task.collate, sampler, (0, 0), settings)
    for epoch in range(6):
        if stages.at(epoch) is not task.stage:
            task.stage = stages.at(epoch)
            loader.close()
        sampler.set_epoch(epoch)
        batch = next(loader.batches(epoch))
        check_image_size(task.images(batch), task.image_size(epoch), epoch)
        found.append(tuple(batch[0].shape))
    loader.close()
    return found


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_real_batch_has_the_size_of_its_own_epoch(cache, num_workers):
    """Also from loader processes, which live on from one epoch to the next."""
    task = task_of(GROWING, cache)
    assert shapes_by_epoch(task, num_workers=num_workers) == [(20, 3, side, side) for side in SIZES]
    with pytest.raises(UsageError, match="epoch 2 is set to images of 24x24 pixels, but"):
        shapes_by_epoch(task, late_by=1)


def test_the_fixres_stage_trains_classifier_and_last_norm_on_crops_as_in_a_test(cache):
    task = task_of(GROWING, cache)
    first, last = task.stages()
    assert (first.epochs, first.trains, last.name, last.epochs) == (4, None, FIXRES, 2)
    assert last.trains == ("network.fc", "network.layer4.0.bn2")
    assert last.optimiser.schedule == "cosine"
    task.stage = last
    pixels, label = task.train_data(4)[7]
    again, _ = task.train_data(5)[7]
    assert np.array_equal(pixels, again)
    assert label == task.data.train.labels[7]
    alone = dataclasses.replace(GROWING, fixres=FixResOptions(epochs=2, trains="classifier"))
    assert task_of(alone, cache).stages()[1].trains == ("network.fc",)
    with pytest.raises(UsageError, match="fixres_epochs=6 leaves no epoch"):
        dataclasses.replace(GROWING, fixres=FixResOptions(epochs=6))


@pytest.mark.parametrize(
    ("name", "norm"),
    [("resnet18", "layer4.1.bn2"), ("resnet50", "layer4.2.bn3"), ("resnet50d", "layer4.2.bn3")],
)
def test_the_last_norm_of_a_network_ends_its_last_block(name, norm):
    with torch.device("meta"):
        network = build_network(name, 10)
    assert last_norm(network) == norm
    assert network.get_submodule("fc").out_features == 10


def test_crops_follow_from_seed_epoch_and_index_alone(cache):
    task = task_of(GROWING, cache)
    task.stage = task.stages()[0]
    one, same, other = (task.train_data(epoch)[5][0] for epoch in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.dtype == np.uint8


def test_held_out_images_are_disjoint_from_those_that_train(cache):
    task = task_of(Options(data=DataOptions(validation=0.2)), cache)
    assert task.lists() == ("test", "validation")
    assert task.validation_list == "validation"
    assert (task.num_train_items(), len(task.eval_data("validation"))) == (160, 40)
    assert not set(task.data.chosen) & set(task.data.held_out)
    held = task.data.held_out
    assert task.eval_data("validation")[3][1] == task.data.train.labels[held[3]]
    assert task_of(Options(), cache).lists() == ("test",)


def test_a_subset_trains_on_images_of_its_seed_and_tests_the_same_ones_for_every_seed(cache):
    runtime = Options().runtime
    data, other = (
        open_data(
            Options(data=DataOptions(subset=30), runtime=dataclasses.replace(runtime, seed=seed)),
            None,
            cache,
        )
        for seed in (0, 1)
    )
    assert data.tested.tolist() == other.tested.tolist()
    assert data.chosen.tolist() != other.chosen.tolist()
    assert (len(data.chosen), len(data.tested)) == (30, 30)
    assert len(set(data.train.labels[data.chosen])) > 2
    assert data.labels("test").tolist() == data.test.labels[data.tested].tolist()


def test_label_smoothing_is_in_the_training_loss_alone(cache):
    logits, labels = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([0])
    plain, smoothed = (
        task_of(Options(augmentation=AugmentationOptions(label_smoothing=amount)), cache)
        .loss(logits, (torch.empty(1), labels))[0]
        .value
        for amount in (0.0, 0.3)
    )
    assert smoothed > plain
    assert plain == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)))


def test_accuracy_and_f1_of_a_training_are_counted_over_all_of_its_batches(cache):
    task, rng = task_of(Options(), cache), np.random.default_rng(0)
    logits, labels = (
        torch.from_numpy(rng.normal(size=(37, 5))),
        torch.from_numpy(rng.integers(0, 5, 37)),
    )
    parts = [slice(0, 20), slice(20, 31), slice(31, 37)]
    counts = [
        task.train_counts(logits[part], (torch.empty(0), labels[part]))["confusion"]
        for part in parts
    ]
    found = task.train_metrics({"confusion": torch.stack(counts).sum(0)})
    predicted = logits.argmax(1)
    assert found["acc"] == float((predicted == labels).double().mean())
    assert found["f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_chunks_and_mirror_images_score_as_single_images_do(cache):
    torch.manual_seed(0)
    task = task_of(Options(sizes=SizeOptions(flip_test=True)), cache)
    model = task.build_model(torch.device("cpu")).eval()
    items = [task.eval_data("test")[index] for index in range(6)]
    with torch.inference_mode():
        together = task.predict_chunk(model, items, torch.device("cpu"))
        alone = [task.predict(model, item, torch.device("cpu")) for item in items]
        mirrored = [(item[0][:, :, ::-1].copy(), item[1]) for item in items]
        turned = task.predict_chunk(model, mirrored, torch.device("cpu"))
    assert [each.predicted for each in together] == [each.predicted for each in alone]
    assert [each.loss for each in together] == pytest.approx([each.loss for each in turned])


def test_a_blurred_network_computes_the_same_shapes_from_blurred_inputs():
    torch.manual_seed(0)
    plain, blurred = (
        build_classifier(ModelOptions(blur_pool=is_blurred), 5, None)
        for is_blurred in (False, True)
    )
    strided = [each for each in blurred.modules() if isinstance(each, BlurredConv)]
    assert len(strided) == 2  # the last block and its shortcut; before them are 3 and 8 channels
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert plain(images).shape == blurred(images).shape == (2, 5)
    constant = torch.ones(1, 16, 9, 9)
    inside = (strided[0](constant) - strided[0].conv(constant))[..., 1:-1, 1:-1]
    assert inside.abs().max() < 1e-5


def test_weights_are_loaded_strictly_and_with_their_classifier(tmp_path):
    torch.save(build_network("resnet18", 5).state_dict(), tmp_path / "mine.pth")
    options = ModelOptions(network="resnet18", start="weights")
    model = build_classifier(options, 5, tmp_path / "mine.pth")
    assert model.weights_id.startswith("mine.pth sha256:")
    with pytest.raises(DataError, match=r"2 wrong shape \(fc\.weight \(5, 512\) instead of"):
        build_classifier(options, 7, tmp_path / "mine.pth")


def found(configs: list[dict[str, object]], cache: Path, **more: object) -> list[str]:
    places = Places(**{"data_root": None, "weights": None, "cache_dir": cache, **more})
    return [f"{each.about}: {each.message} | {each.fix}" for each in problems(configs, places)]


def test_the_check_says_what_runs_lack_and_how_to_get_it(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert found([{"dataset": "shapes5"}], cache) == []
    (no_root,) = found([{"dataset": "imagenet"}], cache)
    assert "needs --data-root DIR" in no_root
    assert "docs/data.md" in no_root
    (no_file,) = found([{"network": "resnet50", "start": "weights", "epochs": 0}], cache)
    assert "https://download.pytorch.org/models/resnet50-0676ba61.pth" in no_file
    assert "--from-scratch" not in no_file
    (tmp_path / "mine.pth").touch()
    (unused,) = found([{}], cache, weights=tmp_path / "mine.pth")
    assert "start=random uses none" in unused
    (no_split,) = found([{"dataset": "imagenet"}], cache, data_root=tmp_path, is_quick=True)
    assert "no folder train/" in no_split


def test_a_broken_image_is_named(cache, tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "val" / "a").mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / split / "a" / "1.JPEG").write_bytes(b"no image")
        Image.new("L", (9, 9)).save(tmp_path / split / "a" / "2.JPEG")
    data = open_data(Options(data=DataOptions(dataset="imagenet")), tmp_path, cache)
    assert isinstance(data.test, ImageFolder)
    pixels, _ = data.eval_images("test")[1]
    assert pixels.shape == (3, 32, 32)
    with pytest.raises(DataError, match=r"a/1\.JPEG cannot be read"):
        data.eval_images("test")[0]


def test_the_check_imports_no_torch():
    code = "import sys, experiments.imagenet.check; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_other_classes_of_as_many_are_not_those_of_a_trained_model(cache):
    """Each output would be counted for another class than it was trained for."""
    task = task_of(GROWING, cache)
    model = task.build_model(torch.device("cpu"))
    before = task.identity(model)
    renamed = dataclasses.replace(task.data.train, classes=task.data.train.classes[::-1])
    task.data = dataclasses.replace(task.data, train=renamed)
    after = task.identity(model)
    assert {name for name in task.identity_of_model if after[name] != before[name]} == {"classes"}
