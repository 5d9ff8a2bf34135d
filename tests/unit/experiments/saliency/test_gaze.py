"""Fixations found in eye positions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat
from support.mit1003 import gaze_over, write_recording

from experiments.saliency.gaze import fixations_of, read_fixations, read_gaze
from merge.errors import DataError

PLACES = [(100.0, 100.0), (300.0, 120.0), (310.0, 400.0), (600.0, 380.0)]


def test_places_at_which_the_eye_rests_are_fixations():
    found = fixations_of(gaze_over(PLACES))
    assert found == pytest.approx(np.array(PLACES), abs=1)


def test_a_rest_below_50_ms_is_none():
    path = np.concatenate(
        [gaze_over(PLACES[:2]), gaze_over([(700.0, 700.0)], 8), gaze_over(PLACES[2:])]
    )
    found = fixations_of(path)
    assert len(found) == 4
    assert np.abs(found - (700, 700)).max(axis=1).min() > 50


def test_an_eye_that_never_moves_fixates_once():
    assert fixations_of(gaze_over([(50.0, 60.0)])) == pytest.approx(np.array([[50, 60]]), abs=0.2)


def test_lost_samples_leave_the_median_alone():
    path = gaze_over(PLACES)
    path[20:30] = np.nan
    assert fixations_of(path)[-3:] == pytest.approx(np.array(PLACES[1:]), abs=1)
    assert len(fixations_of(np.full((100, 2), np.nan))) == 0


def test_the_first_fixation_and_those_outside_are_left_out(tmp_path):
    path = tmp_path / "image.mat"
    write_recording(path, gaze_over(PLACES))
    found = read_fixations(path, (400, 768))
    assert found == pytest.approx(np.array(PLACES[1:3]), abs=1)


def test_the_first_of_several_repetitions_is_taken(tmp_path):
    path = tmp_path / "image.mat"
    both = [{"eyeData": np.ones((5, 3))}, {"eyeData": np.zeros((5, 3))}]
    savemat(path, {"image": {"DATA": np.array(both)}})
    assert read_gaze(path).tolist() == [[1, 1]] * 5


def test_a_file_without_a_recording_is_refused(tmp_path):
    path = tmp_path / "other.mat"
    savemat(path, {"numbers": np.ones(3)})
    with pytest.raises(DataError, match="no structure with DATA"):
        read_gaze(path)
    for data in (3, {"other": 1}, {"eyeData": "text"}, {"eyeData": np.ones((30, 1))}):
        savemat(path, {"image": {"DATA": data}})
        with pytest.raises(DataError, match="is no recording of MIT1003"):
            read_fixations(path, (40, 30))


@pytest.mark.parametrize("num_samples", [0, 1, 5, 12])
def test_a_recording_that_is_too_short_has_no_fixation(tmp_path, num_samples):
    assert fixations_of(np.ones((num_samples, 2))).shape == (0, 2)
    savemat(tmp_path / "image.mat", {"image": {"DATA": {"eyeData": np.zeros((0, 3))}}})
    assert read_fixations(tmp_path / "image.mat", (40, 30)).shape == (0, 2)
