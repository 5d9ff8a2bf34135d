"""Tallies of the dense tasks: equal on any number of ranks, and to the defining libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn

from experiments.datasets.coco_boxes import BoxAnnotations, BoxImage, BoxObject
from experiments.dense.tally import (
    BoxTally,
    ClassTally,
    Detections,
    PixelTally,
    iou_per_class,
    rank_of,
)
from merge.errors import DataError

WORLD_SIZES = (1, 2, 3)


@dataclass
class Item:
    labels: np.ndarray | None = None
    label: int = 0


def summed(make, predictions, items, world_size):
    """The state of a tally whose items are divided over ranks."""
    states = []
    for rank in range(world_size):
        tally = make()
        for index in range(rank, len(items), world_size):
            tally.add(index, predictions[index], items[index])
        states.append(tally.state())
    return sum(states[1:], start=states[0])


@pytest.fixture
def maps():
    """Seven true and predicted label maps of different sizes, of 5 classes and some to ignore."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(5, 40, (7, 2))
    truths = [rng.choice([0, 1, 2, 4, 255], size).astype(np.uint8) for size in sizes]
    right = [np.where(rng.random(t.shape) < 0.6, t, 1).astype(np.uint8) for t in truths]
    return truths, [np.where(p == 255, 3, p).astype(np.uint8) for p in right]


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_segmentation_has_scikit_learns_numbers_on_any_number_of_ranks(maps, world_size):
    truths, predicted = maps
    items = [Item(labels=truth) for truth in truths]
    state = summed(lambda: PixelTally(5), predicted, items, world_size)
    truth = np.concatenate([t[t != 255] for t in truths])
    found = np.concatenate([p[t != 255] for t, p in zip(truths, predicted, strict=True)])
    assert (state == sklearn.confusion_matrix(truth, found, labels=range(5))).all()
    ours = PixelTally(5).metrics(state)
    assert ours["pixel_accuracy"] == pytest.approx(sklearn.accuracy_score(truth, found), abs=1e-12)
    assert ours["miou"] == pytest.approx(
        sklearn.jaccard_score(truth, found, average="macro"), abs=1e-12
    )


def test_miou_is_of_the_whole_set_and_no_mean_over_images_or_ranks(maps):
    truths, predicted = maps
    each = [PixelTally(5) for _ in truths]
    for tally, truth, found in zip(each, truths, predicted, strict=True):
        tally.add(0, found, Item(labels=truth))
    whole = PixelTally(5).metrics(sum(tally.state() for tally in each))["miou"]
    means = np.mean([tally.metrics(tally.state())["miou"] for tally in each])
    assert abs(whole - means) > 0.005


def test_a_class_that_is_nowhere_has_no_iou_and_one_that_is_only_predicted_has_0():
    tally = PixelTally(3)
    tally.add(0, np.array([[0, 1]], np.uint8), Item(labels=np.array([[0, 0]], np.uint8)))
    iou = iou_per_class(tally.state())
    assert iou[0] == 0.5
    assert iou[1] == 0
    assert np.isnan(iou[2])
    assert tally.metrics(tally.state())["miou"] == 0.25


def test_label_maps_without_any_label_are_an_error_and_no_number():
    with pytest.raises(DataError, match="no labelled pixel"):
        PixelTally(3).metrics(PixelTally(3).state())


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_classification_has_scikit_learns_numbers_on_any_number_of_ranks(world_size):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 9, 101)
    scores = rng.normal(size=(101, 9)).astype(np.float32) + 1.5 * np.eye(9)[labels]
    items = [Item(label=int(label)) for label in labels]
    state = summed(lambda: ClassTally(9), scores.astype(np.float32), items, world_size)
    assert state.dtype == np.int64
    ours = ClassTally(9).metrics(state)
    for k in (1, 5):
        expected = sklearn.top_k_accuracy_score(labels, scores, k=k, labels=range(9))
        assert ours[f"top{k}"] == pytest.approx(expected, abs=1e-12)


def test_equal_scores_are_ranked_by_class_and_nan_is_never_right():
    assert [rank_of(np.ones(4, np.float32), label) for label in range(4)] == [0, 1, 2, 3]
    assert rank_of(np.full(4, np.nan, np.float32), 0) == 4


def annotations(*images: list[tuple[int, tuple[float, float, float, float]]]) -> BoxAnnotations:
    boxed = [
        BoxImage(
            n, f"{n}.jpg", 100, 100, tuple(BoxObject(c, b, b[2] * b[3], False) for c, b in image)
        )
        for n, image in enumerate(images, start=1)
    ]
    return BoxAnnotations(Path(), tuple(boxed), {1: "cat", 2: "dog"})


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


BOX = (10.0, 10.0, 40.0, 40.0)
OTHER = (60.0, 60.0, 30.0, 30.0)


def test_perfect_boxes_have_an_ap_of_1_and_no_boxes_have_0():
    truth = annotations([(1, BOX)], [(2, OTHER), (1, BOX)])
    perfect = [found((*BOX, 0.9, 1)), found((*OTHER, 0.8, 2), (*BOX, 0.7, 1))]
    state = summed(lambda: BoxTally(truth), perfect, [None] * 2, 1)
    assert BoxTally(truth).metrics(state) == {
        "map": 1.0,
        "map_50": 1.0,
        "map_75": 1.0,
        "recall_100": 1.0,
    }
    nothing = BoxTally(truth)
    assert nothing.metrics(nothing.state())["map"] == 0


def test_ap_ranks_the_boxes_of_all_ranks_together():
    """A wrong box with the highest score costs every image: no mean of the ranks' APs shows it."""
    truth = annotations([(1, BOX)], [(1, BOX)])
    predictions = [found((*OTHER, 0.9, 1), (*BOX, 0.5, 1)), found((*BOX, 0.8, 1))]
    whole = summed(lambda: BoxTally(truth), predictions, [None] * 2, 2)
    for world_size in WORLD_SIZES:
        again = summed(lambda: BoxTally(truth), predictions, [None] * 2, world_size)
        assert (again == whole).all()
    ap = BoxTally(truth).metrics(whole)["map"]
    each = []
    for number, prediction in enumerate(predictions):
        part = BoxAnnotations(Path(), (truth.images[number],), truth.categories)
        tally = BoxTally(part)
        tally.add(0, prediction, None)
        each.append(tally.metrics(tally.state())["map"])
    assert each == pytest.approx([0.5, 1.0])
    assert ap == pytest.approx(2 / 3, abs=0.01)


def test_of_more_boxes_than_an_image_has_rows_the_highest_scores_stay():
    truth = annotations([(1, BOX)])
    rows = [(float(n), 0.0, 5.0, 5.0, n / 200, 1) for n in range(150)]
    tally = BoxTally(truth)
    tally.add(0, found(*rows), None)
    assert tally.state().shape == (1, 100, 6)
    assert tally.state()[0, :, 4].min() == 50 / 200


def test_images_without_an_object_are_an_error_and_no_number():
    truth = annotations([])
    with pytest.raises(DataError, match="no annotated object"):
        BoxTally(truth).metrics(BoxTally(truth).state())
