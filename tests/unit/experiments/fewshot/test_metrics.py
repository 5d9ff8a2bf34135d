"""The metric against an independent, slow transcription of its definition."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.metrics import IoUCounts, episode_counts
from experiments.fewshot.tally import EpisodeTally
from merge.errors import RecordError

CLASSES = (6, 7, 9)

sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))


@st.composite
def counted_episodes(draw):
    size = draw(sizes)
    prediction = draw(arrays(np.bool_, size))
    target = draw(arrays(np.uint8, size, elements=st.sampled_from([0, 1, 255])))
    return prediction, target, draw(st.sampled_from(CLASSES))


def counted(episodes) -> IoUCounts:
    counts = IoUCounts.empty(CLASSES)
    for prediction, target, class_id in episodes:
        counts.update(prediction, target, class_id)
    return counts


def iou_by_pixels(episodes, value: int, class_id: int | None = None) -> float | None:
    """IoU of foreground (1) or background (0), pixel by pixel, over one class or over all."""
    intersection = union = 0
    for prediction, target, of_class in episodes:
        for predicted, true in zip(prediction.ravel(), target.ravel(), strict=True):
            if true == 255 or class_id not in {None, of_class}:
                continue
            intersection += int(predicted) == value and true == value
            union += int(predicted) == value or true == value
    return intersection / union if union else None


@given(st.lists(counted_episodes(), max_size=6))
def test_the_metric_equals_a_count_pixel_by_pixel(episodes):
    counts = counted(episodes)
    expected = {class_id: iou_by_pixels(episodes, 1, class_id) for class_id in CLASSES}
    assert counts.per_class() == expected
    present = [iou for iou in expected.values() if iou is not None]
    if present:
        assert counts.miou() == pytest.approx(np.mean(present), abs=1e-12)
    foreground, background = iou_by_pixels(episodes, 1), iou_by_pixels(episodes, 0)
    if foreground is not None and background is not None:
        assert counts.fb_iou() == pytest.approx((foreground + background) / 2, abs=1e-12)


@given(st.lists(counted_episodes(), max_size=8), st.integers(1, 4))
def test_shares_of_the_list_add_up_to_the_whole(episodes, world_size):
    total = IoUCounts.empty(CLASSES)
    for rank in range(world_size):
        total += counted(episodes[rank::world_size])
    assert total.to_json() == counted(episodes).to_json()


def large_and_small_episode():
    large, small = np.ones((1, 100), np.uint8), np.ones((1, 10), np.uint8)
    return [(large == 1, large, 6), (small == 0, small, 6)]


def test_miou_divides_sums_and_is_not_the_mean_of_episodes():
    counts = IoUCounts.empty([6])
    of_episodes = [counts.update(*episode) for episode in large_and_small_episode()]
    assert of_episodes == [1.0, 0.0]
    assert counts.miou() == 100 / 110


def test_every_class_weighs_the_same_in_miou_however_often_it_was_asked_for():
    target = np.ones((2, 2), np.uint8)
    counts = counted([(target == 1, target, 6)] * 9 + [(target == 0, target, 7)])
    assert counts.miou() == 0.5


def test_a_class_that_was_never_counted_is_left_out_and_named():
    target = np.array([[0, 1]], np.uint8)
    counts = counted([(target == 1, target, 6)])
    assert counts.per_class() == {6: 1.0, 7: None, 9: None}
    assert counts.missing_classes() == (7, 9)
    assert counts.miou() == 1.0


def test_without_any_episode_there_is_no_number():
    counts = IoUCounts.empty(CLASSES)
    for measure in (counts.miou, counts.fb_iou):
        with pytest.raises(ValueError, match="counted"):
            measure()


def test_an_episode_without_an_object_has_no_iou_of_its_own():
    target = np.array([[0, 255]], np.uint8)
    assert IoUCounts.empty(CLASSES).update(np.array([[False, True]]), target, 6) is None


@pytest.mark.parametrize(
    ("prediction", "target", "class_id", "message"),
    [
        (np.ones((2, 2), bool), np.ones((2, 3), np.uint8), 6, "does not fit"),
        (np.ones((2, 2), np.uint8), np.ones((2, 2), np.uint8), 6, "must be bool"),
        (np.ones((2, 2), bool), np.full((2, 2), 2, np.uint8), 6, "0, 1 and 255"),
        (np.ones((2, 2), bool), np.ones((2, 2), np.uint8), 8, "not among the fold's"),
    ],
)
def test_what_cannot_be_counted_is_refused_and_changes_nothing(
    prediction, target, class_id, message
):
    counts = IoUCounts.empty(CLASSES)
    with pytest.raises(ValueError, match=message):
        counts.update(prediction, target, class_id)
    assert counts.counts.sum() == 0


@given(st.lists(counted_episodes(), max_size=4))
def test_counts_come_back_whole_from_json(episodes):
    counts = counted(episodes)
    written = json.loads(json.dumps(counts.to_json()))
    assert IoUCounts.from_json(written).to_json() == counts.to_json()


def test_counts_of_different_folds_do_not_add_up():
    with pytest.raises(ValueError, match="do not add up"):
        IoUCounts.empty([1, 2]) + IoUCounts.empty([1, 3])


@pytest.mark.parametrize("damage", [[1, 2], [1, 2, -3], [1, 2, 0.5], [1, 2, True], "123", None])
def test_damaged_counts_are_refused(damage):
    record = IoUCounts.empty(CLASSES).to_json()
    record["foreground_union"] = damage
    with pytest.raises(RecordError, match="measure them again"):
        IoUCounts.from_json(record)


def test_a_method_that_iterates_is_counted_after_each_iteration_and_scored_after_the_last():
    episodes = [Episode("a", 3, ("b",)), Episode("b", 7, ("a",))]
    tallies = [EpisodeTally(episodes, (3, 7), num_iterations=2) for _ in range(2)]
    truth = np.array([[1, 1, 0, 0]], np.uint8)
    half, whole = np.array([[1, 0, 0, 0]], bool), np.array([[1, 1, 0, 0]], bool)
    for index, (rank, predictions) in enumerate(
        zip(tallies, ([half, whole], [half, half]), strict=True)
    ):
        counts = np.stack([episode_counts(each, truth) for each in predictions])
        rank.add(index, counts, SimpleNamespace(truth=truth))
    state = tallies[0].state() + tallies[1].state()
    by_iteration = [each.total().miou() for each in tallies[0].by_iteration(state)]
    assert by_iteration == [0.5, 0.75]
    assert tallies[0].metrics(state)["miou"] == 0.75
