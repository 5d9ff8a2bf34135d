"""Fixations in the recordings of MIT1003's observers: eye positions at 240 Hz in MATLAB files.

A file holds one structure, named like the image, whose field DATA has a field eyeData: columns are
x and y in pixels of the image, in order of time. The parameters are those of the authors' program
(their acceleration criterion of 6 degrees per second between two windows of four samples, 34 pixels
a degree, and fixations of at least 50 ms); the program itself is MATLAB and is not used. As the
reference library does, the first fixation of a recording is left out, because it began before the
image was shown, and so are fixations outside of the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.saliency.points import Points, Size, inside
from merge.errors import DataError

SAMPLES_PER_S = 240
_WINDOW = 4
_CRITERION = 6 * 34.0
"""Least difference between the speeds of two successive windows, in pixels per second."""
_MIN_FIXATION_SAMPLES = 12
"""50 ms."""
_LONGEST_SACCADE_SAMPLES = 25
"""Samples after its acceleration within which a saccade must slow down."""


def read_fixations(path: Path, size: Size) -> Points:
    """Fixations of one recording inside an image of `size`, without the first one.

    DataError: the file is no recording.
    """
    found = fixations_of(read_gaze(path))[1:]
    return found[inside(found, size)]


def read_gaze(path: Path) -> Points:
    """The eye positions of a recording. DataError: the file has none."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        document = loadmat(str(path), squeeze_me=True, struct_as_record=False)
    except (OSError, ValueError, NotImplementedError, TypeError, MatReadError) as error:
        raise DataError(f"{path} is no MATLAB file that scipy reads ({error})") from error
    recordings = [value for name, value in document.items() if not name.startswith("__")]
    if len(recordings) != 1 or not hasattr(recordings[0], "DATA"):
        raise DataError(f"{path} is no recording of MIT1003: it has no structure with DATA")
    # A recording with several repetitions: the first is the one that is evaluated.
    data: Any = np.atleast_1d(recordings[0].DATA)[0]
    try:
        gaze = np.asarray(data.eyeData, np.float64)
    except (AttributeError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no recording of MIT1003: {error}") from error
    if not gaze.size:
        return np.empty((0, 2))
    if gaze.ndim != 2 or gaze.shape[1] < 2:
        raise DataError(f"{path} is no recording of MIT1003: eyeData has no columns x and y")
    return gaze[:, :2]


def fixations_of(gaze_T2: Points) -> Points:
    """The median position of each fixation, in order of time."""
    if not len(gaze_T2):
        return np.empty((0, 2))
    in_saccade_T = _saccades(gaze_T2)
    edges = np.flatnonzero(np.diff(in_saccade_T)) + 1
    parts = np.split(np.arange(len(gaze_T2)), edges)
    fixations = [part for part in parts if len(part) and not in_saccade_T[part[0]]]
    long_enough = [part for part in fixations if len(part) > _MIN_FIXATION_SAMPLES]
    medians = [
        np.nanmedian(gaze_T2[part], axis=0) for part in long_enough if _is_seen(gaze_T2[part])
    ]
    return np.array(medians).reshape(-1, 2)


def _is_seen(part_T2: Points) -> bool:
    return not np.isnan(part_T2).all(axis=0).any()


def _saccades(gaze_T2: Points) -> NDArray[np.bool_]:
    """Which samples lie in a saccade: from where the eye speeds up to where it has slowed down."""
    acceleration_T = _acceleration(gaze_T2)
    in_saccade_T = np.zeros(len(gaze_T2), np.bool_)
    for first, last in _runs(acceleration_T > _CRITERION):
        end = _slowed_down(acceleration_T, last)
        # One sample above the criterion is noise.
        if last > first and end is not None:
            in_saccade_T[first:end] = True
    return in_saccade_T


def _acceleration(gaze_T2: Points) -> NDArray[np.float64]:
    """Difference of the speeds in the windows that begin at a sample and one later, px/s."""
    steps_T = np.hypot(*np.diff(gaze_T2, axis=0, prepend=gaze_T2[:1]).T)
    smooth_T = np.convolve(steps_T, np.full(_WINDOW, 1 / _WINDOW))[: len(steps_T)]
    # The sums of two windows one sample apart differ by the step that enters and the one that
    # leaves. The authors' windows hold one step more than the four that they divide by.
    gained_T = np.roll(smooth_T, -(_WINDOW + 1)) - smooth_T
    gained_T[len(gained_T) - _WINDOW - 1 :] = 0
    return gained_T * SAMPLES_PER_S / _WINDOW


def _slowed_down(acceleration_T: NDArray[np.float64], last: int) -> int | None:
    """The sample after the deceleration that follows `last`; None where there is none in time."""
    limit = last + 1 + _LONGEST_SACCADE_SAMPLES
    slowing = np.flatnonzero(acceleration_T[last + 1 : limit] < -_CRITERION)
    if not len(slowing):
        is_at_end = limit >= len(acceleration_T)
        return len(acceleration_T) if is_at_end else None
    after = last + 1 + int(slowing[0])
    while after < len(acceleration_T) and acceleration_T[after] < -_CRITERION:
        after += 1
    return after


def _runs(is_true_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last place of each run of true values."""
    padded = np.diff(np.concatenate([[0], is_true_T.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(padded == 1), np.flatnonzero(padded == -1) - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
