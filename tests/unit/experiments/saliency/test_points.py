"""Where fixations lie on images, and where they go when an image is resized."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.saliency.items import fixation_counts, resized
from experiments.saliency.points import cells_of, cells_of_fractions, counts_of, inside, rescaled
from experiments.saliency.source import Stimulus


@pytest.mark.parametrize("to", [(20, 60), (80, 15), (40, 30), (37, 41)])
def test_a_fixation_stays_on_the_mark_it_was_on_when_the_image_is_resized(to):
    """The mark is in one pixel of the image; in the resized image it is brightest there."""
    size = (40, 30)
    for column, row in ((1, 1), (38, 28), (13, 7), (20, 21)):
        image = np.zeros((30, 40, 3), np.uint8)
        image[row, column] = 255
        moved = rescaled(np.array([[column + 0.5, row + 0.5]]), size, to)
        seen = resized(image, to)[..., 0]
        (cell,) = cells_of(moved, to)
        assert seen.ravel()[cell] == seen.max() > 0


def test_without_rescaling_a_fixation_leaves_its_mark():
    """What happens to points that are kept while the image is halved."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[4:6, 16:18] = 255
    seen = resized(image, (20, 15))[..., 0]
    assert seen[2, 8] == seen.max()
    assert seen[4, 16] == 0


def test_resizing_keeps_the_number_of_fixations():
    points = np.random.default_rng(0).uniform(0, (40, 30), (50, 2))
    stimulus = Stimulus("image", (40, 30), points)
    for to in ((5, 4), (40, 30), (100, 7)):
        assert fixation_counts(stimulus, to).sum() == 50


def test_a_point_counts_for_the_pixel_that_it_lies_in():
    cells = cells_of(np.array([[0.0, 0.0], [2.99, 1.0], [2.0, 0.5]]), (3, 2))
    assert cells.tolist() == [0, 5, 2]
    assert counts_of(cells, (3, 2)).tolist() == [[1, 0, 1], [0, 0, 1]]


def test_a_point_outside_of_the_image_is_refused_and_a_rounded_fraction_is_not():
    with pytest.raises(ValueError, match="outside of an image of 3 x 2 pixels"):
        cells_of(np.array([[3.0, 0.5]]), (3, 2))
    assert cells_of_fractions(np.array([[np.nextafter(1.0, 0), 0.0]]), (3, 2)).tolist() == [2]


def test_fixations_at_the_edge_are_lost_ones():
    points = np.array([[0.0, 1.0], [3.0, 1.0], [1.0, 2.0], [1.5, 1.5], [-1.0, 1.0]])
    assert inside(points, (3, 2)).tolist() == [False, False, False, True, False]
