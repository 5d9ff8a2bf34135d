"""The centre bias of MIT1003 on the fixations of its 15 observers, without its photographs.

The file lists the fixations that another study found in the same recordings, initial ones included.
The reference library finds 104,171 of its own without the initial ones, of mean x 487.137 and mean
y 392.727; the authors' program tells fixations apart by other thresholds than that study's, so the
numbers differ and the means nearly agree. Sizes of the images are not in the file: here an image is
1024 x 768 pixels, or 768 x 1024 where people looked further down than to the right.
"""

from __future__ import annotations

import numpy as np
import pytest

from experiments.saliency.centre_bias import CentreBias, Pool
from experiments.saliency.metrics import METRICS, Fixated, scores
from experiments.saliency.points import cells_of, inside, normalised, rescaled
from experiments.saliency.splits import fold_of

pytestmark = pytest.mark.data

SCALE = 4
"""Metrics are those of a quarter of the size: 16 times less to compute."""


@pytest.fixture(scope="module")
def observed(real_data):
    """Rows with a place that are not the first of their observer on their image."""
    import rdata

    path = real_data / "mit1003-fixations" / "Fixation_MIT1003.Rda"
    if not path.is_file():
        pytest.skip(f"real data: there is no {path}")
    with pytest.warns(UserWarning, match="Missing constructor for R class"):
        rows = rdata.read_rda(path)["Fixation_MIT1003"]
    rows.columns = ["observer", "image", "x", "y", "start_s", "end_s", "duration_s"]
    assert len(rows) == 112_344
    seen = rows.dropna(subset=["x", "y"])
    return seen.drop(seen.groupby(["observer", "image"]).head(1).index)


@pytest.fixture(scope="module")
def images(observed):
    """Size and fixations of each image."""
    found = []
    for _, rows in observed.groupby("image"):
        points = rows[["x", "y"]].to_numpy(np.float64)
        size = (1024, 768) if points[:, 0].max() >= points[:, 1].max() else (768, 1024)
        found.append((size, points[inside(points, size)]))
    return found


def test_fixations_are_those_of_15_observers_on_1003_images(observed, images):
    assert (observed["observer"].nunique(), len(images)) == (15, 1003)
    assert len(observed) == 94_926
    assert observed[["x", "y"]].mean().tolist() == pytest.approx([482.731, 394.831], abs=1e-3)
    # The reference library's own: 487.137 and 392.727.
    assert observed[["x", "y"]].mean().tolist() == pytest.approx([487.137, 392.727], abs=5)


def baseline_scores(images, fold):
    """Means of the metrics that the centre bias has on a fold, over the uniform density."""
    fractions = [normalised(points, size) for size, points in images]
    everyone = Pool.of(fractions, range(len(images)))
    bias = CentreBias(everyone, 0.02154, 1.3e-15)
    rows = []
    for place in fold_of(len(images), fold).test:
        full, points = images[place]
        size = (full[0] // SCALE, full[1] // SCALE)
        truth = Fixated(
            fixations=cells_of(rescaled(points, full, size), size),
            others=everyone.cells_without(place, size),
            log_baseline=np.full(size[::-1], -np.log(size[0] * size[1])),
            blur_px=35 / SCALE,
        )
        rows.append(scores(bias.log_density(place, size), truth))
    return dict(zip(METRICS, np.mean(rows, axis=0), strict=True))


def test_the_centre_bias_scores_the_same_on_every_fold(images):
    """About 0.8 bit over the uniform density, AUC 0.79, and no better than where others look."""
    found, other = baseline_scores(images, 0), baseline_scores(images, 1)
    expected = {
        "ig": 0.8556,
        "auc": 0.7940,
        "sauc": 0.5100,
        "nss": 1.2071,
        "cc": 0.5343,
        "kl": 0.7932,
        "sim": 0.5187,
    }
    assert found == pytest.approx(expected, abs=1e-4)
    assert other == pytest.approx(expected, rel=0.15)
