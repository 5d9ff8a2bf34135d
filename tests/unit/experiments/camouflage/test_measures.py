"""The measures on cases that are worked out by hand or pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.camouflage.measures.alignment import e_adaptive, e_curve
from experiments.camouflage.measures.maps import (
    intersection_over_union,
    mean_absolute_error,
    stretched,
)
from experiments.camouflage.measures.scores import (
    NUM_COLUMNS,
    SINGLE,
    image_scores,
    mean_scores,
)
from experiments.camouflage.measures.structure import s_measure
from experiments.camouflage.measures.weighted_f import weighted_f
from experiments.camouflage.tally import ImageTally


def square(height=20, width=30):
    truth = np.zeros((height, width), bool)
    truth[5:12, 8:20] = True
    return truth


def grey(values):
    return np.asarray(values, np.float64).__mul__(255).round().astype(np.uint8)


def test_a_perfect_map_scores_one_and_its_e_measure_a_little_more():
    truth = square()
    scores = mean_scores(image_scores(grey(truth), truth)[None])
    assert scores["iou"] == scores["weighted_f"] == 1
    assert scores["mae"] == 0
    assert scores["s_alpha"] == pytest.approx(1, abs=1e-9)
    assert scores["e_max"] == pytest.approx(600 / 599)


@pytest.mark.parametrize("truth", [np.zeros((4, 5), bool), np.ones((4, 5), bool)])
def test_empty_and_full_masks_are_judged_by_the_mean_of_the_map(truth):
    map_HW = np.linspace(0, 1, 20).reshape(4, 5)
    expected = map_HW.mean() if truth.all() else 1 - map_HW.mean()
    assert s_measure(map_HW, truth) == pytest.approx(expected)
    found = map_HW >= 128 / 255
    right = (found == truth).sum() / 19
    assert e_curve(map_HW, truth)[255 - 128] == pytest.approx(right)
    assert (weighted_f(map_HW, truth) > 0) == truth.any()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (6, 8), (3, 4)])
def test_an_object_of_one_pixel_has_a_score(row, column):
    """Its spread is 0, and a part of the image without a pixel counts nothing: neither is NaN."""
    truth = np.zeros((7, 9), bool)
    truth[row, column] = True
    scores = image_scores(grey(np.random.default_rng(0).random((7, 9))), truth)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("truth", [False, True])
def test_an_image_of_one_pixel_has_no_score_far_above_one(truth):
    scores = image_scores(np.array([[255 * truth]], np.uint8), np.array([[truth]]))
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_map_of_one_value_is_not_stretched():
    assert (stretched(np.full((3, 4), 51, np.uint8)) == 0.2).all()
    assert sorted(np.unique(stretched(np.array([[3, 5, 7]], np.uint8)))) == [0, 0.5, 1]


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.95))
def test_the_e_measure_by_counts_is_that_of_every_pixel(seed, share):
    rng = np.random.default_rng(seed)
    truth = rng.random((6, 7)) < share
    truth[0, :2] = True, False
    map_HW = stretched(rng.integers(0, 256, (6, 7)).astype(np.uint8))
    for threshold in (0, 1, 100, 254, 255):
        assert e_curve(map_HW, truth)[255 - threshold] == pytest.approx(
            by_pixel(np.floor(map_HW * 255) >= threshold, truth)
        )
    cut = min(2 * map_HW.mean(), 1)
    assert e_adaptive(map_HW, truth) == pytest.approx(by_pixel(map_HW >= cut, truth))


def by_pixel(found, truth):
    """The E-measure as its paper writes it."""
    eps = np.spacing(1.0)
    a, b = found - found.mean(), truth - truth.mean()
    aligned = 2 * a * b / (a**2 + b**2 + eps)
    return ((aligned + 1) ** 2 / 4).sum() / (truth.size - 1 + eps)


def test_the_weighted_f_measure_forgives_errors_near_the_object_more_than_far_ones():
    truth = square()
    near, far = truth.copy(), truth.copy()
    near[12, 8:12] = True
    far[19, 26:30] = True
    assert weighted_f(far.astype(float), truth) < weighted_f(near.astype(float), truth) < 1


def test_iou_counts_pixels_from_one_half_on_and_two_empty_masks_agree():
    truth = np.array([[True, True, False, False]])
    assert intersection_over_union(np.array([[128, 127, 200, 0]], np.uint8), truth) == 1 / 3
    nothing = np.zeros((2, 2), np.uint8)
    assert intersection_over_union(nothing, nothing > 0) == 1
    assert mean_absolute_error(np.array([[0.5, 1, 0.25, 0]]), truth) == pytest.approx(0.75 / 4)


def test_a_map_of_another_size_than_its_mask_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 4\) is scored against a mask of \(8, 8\)"):
        image_scores(np.zeros((4, 4), np.uint8), np.zeros((8, 8), bool))


def test_the_largest_e_measure_is_that_of_one_threshold_for_all_images():
    rows = np.zeros((2, NUM_COLUMNS))
    rows[0, len(SINGLE) + 3], rows[1, len(SINGLE) + 7] = 1, 0.8
    scores = mean_scores(rows)
    assert scores["e_max"] == 0.5
    assert scores["e_mean"] == pytest.approx(1.8 / 2 / 256)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_rows_of_several_ranks_add_up_to_the_same_bits(num_ranks):
    from experiments.camouflage.data.loading import EvalItem

    rng = np.random.default_rng(1)
    truths = [rng.random((9 + i, 11)) < 0.4 for i in range(7)]
    maps = [rng.integers(0, 256, truth.shape).astype(np.uint8) for truth in truths]
    tallies = [ImageTally(7) for _ in range(num_ranks)]
    alone = ImageTally(7)
    for index, (truth, found) in enumerate(zip(truths, maps, strict=True)):
        for tally in (alone, tallies[index % num_ranks]):
            tally.add(index, found, EvalItem(None, truth))
    summed = sum(tally.state() for tally in tallies)
    assert (summed == alone.state()).all()
    assert alone.metrics(summed) == alone.metrics(alone.state())
