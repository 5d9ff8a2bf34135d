"""Small copies of MIT1003 in its true layout: generated images, and recordings of observers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from experiments.saliency.beacons import write_beacons
from experiments.saliency.points import Points


def small_copy(root: Path, num_images: int = 6) -> Path:
    """ALLSTIMULI and ALLFIXATIONMAPS below `root`."""
    write_beacons(root, num_images)
    return root


def write_copy(root: Path, points: dict[str, Points], size: tuple[int, int]) -> Path:
    """Grey images of `size` with fixations at these points."""
    for folder in ("ALLSTIMULI", "ALLFIXATIONMAPS"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, each in points.items():
        white = np.zeros(size[::-1], np.uint8)
        for x, y in each:
            white[int(y), int(x)] = 255
        image = np.full((*size[::-1], 3), 128, np.uint8)
        files = {
            root / "ALLSTIMULI" / f"{name}.jpeg": image,
            root / "ALLFIXATIONMAPS" / f"{name}_fixPts.jpg": white,
            root / "ALLFIXATIONMAPS" / f"{name}_fixMap.jpg": white,
        }
        for path, array in files.items():
            Image.fromarray(array).save(path, "JPEG", quality=95)
    return root


def write_recording(path: Path, gaze_T2: Points) -> None:
    """Eye positions as the data set has them: a structure named like its image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # MATLAB's names end after 63 characters, and hold no dash.
    savemat(path, {path.stem[:31]: {"DATA": {"eyeData": np.pad(gaze_T2, ((0, 0), (0, 1)))}}})


def gaze_over(
    places: Sequence[tuple[float, float]], samples: int = 60, noise_px: float = 0.3
) -> Points:
    """Eye positions at 240 Hz that rest at each place and jump to the next in 5 samples."""
    rng = np.random.default_rng(0)
    rests = [np.tile(place, (samples, 1)) for place in np.array(places, np.float64)]
    parts = [rests[0]]
    for before, after in itertools.pairwise(rests):
        parts += [np.linspace(before[0], after[0], 7)[1:-1], after]
    path = np.concatenate(parts)
    return path + noise_px * rng.standard_normal(path.shape)
