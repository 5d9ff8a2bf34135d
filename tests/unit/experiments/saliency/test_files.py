"""MIT1003 from its published folders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.mit1003 import gaze_over, small_copy, write_copy, write_recording

from experiments.datasets.index import NotIndexedError, no_building
from experiments.saliency.beacons import draw
from experiments.saliency.files import FileSource
from experiments.saliency.points import cells_of
from experiments.saliency.source import fingerprint, read_rgb
from merge.errors import DataError

POINTS = {"a_street": np.array([[3.5, 2.5], [30.5, 20.5]]), "b_tree": np.array([[10.5, 9.5]])}


@pytest.fixture
def copy(tmp_path):
    return write_copy(tmp_path / "data", POINTS, (40, 30))


@pytest.mark.parametrize("folder", [".", "MIT1003", "mit1003"])
def test_images_and_fixations_are_found_where_users_have_them(tmp_path, folder):
    write_copy(tmp_path / "data" / folder, POINTS, (40, 30))
    source = FileSource.open(tmp_path / "data", tmp_path / "cache", "points")
    assert [each.name for each in source.stimuli] == sorted(POINTS)
    for each in source.stimuli:
        assert each.size == (40, 30)
        assert each.points.tolist() == POINTS[each.name].tolist()
    assert read_rgb(source, 1).shape == (30, 40, 3)


def test_the_generated_set_holds_the_fixations_that_were_drawn(tmp_path):
    root = small_copy(tmp_path / "data", 2)
    source = FileSource.open(root, tmp_path / "cache", "points")
    for index, stimulus in enumerate(source.stimuli):
        drawn = set(cells_of(draw(index)[1], stimulus.size).tolist())
        assert set(cells_of(stimulus.points, stimulus.size).tolist()) == drawn


def test_the_index_is_made_once_and_anew_where_a_file_changed(copy, tmp_path):
    cache = tmp_path / "cache"
    before = FileSource.open(copy, cache, "points")
    with no_building():
        assert fingerprint(FileSource.open(copy, cache, "points")) == fingerprint(before)
    write_copy(copy, {"b_tree": np.array([[11.5, 9.5], [1.5, 1.5]])}, (40, 30))
    with no_building(), pytest.raises(NotIndexedError):
        FileSource.open(copy, cache, "points")
    assert fingerprint(FileSource.open(copy, cache, "points")) != fingerprint(before)


def test_fixations_of_several_observers_come_from_their_recordings(tmp_path):
    copy = write_copy(tmp_path / "data", POINTS, (400, 300))
    rests = [(50, 50), (200, 150), (350, 80), (900, 80)]
    for observer in ("ajs", "hp"):
        for name in POINTS:
            write_recording(copy / "DATA" / observer / f"{name}.mat", gaze_over(rests))
    source = FileSource.open(copy, tmp_path / "cache", "observers")
    for each in source.stimuli:
        # Without the first one, and the last one, which lies outside; each observer counts.
        assert np.round(each.points).tolist() == [[200, 150], [350, 80]] * 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: (root / "ALLFIXATIONMAPS/b_tree_fixPts.jpg").unlink(),
            "is missing: `replicate",
        ),
        (lambda root: (root / "ALLSTIMULI").rename(root / "stimuli"), "no folder ALLSTIMULI"),
        (lambda root: (root / "ALLSTIMULI/a_street.jpeg").write_bytes(b"x"), "cannot be decoded"),
        (
            lambda root: Image.new("L", (9, 9)).save(root / "ALLFIXATIONMAPS/a_street_fixPts.jpg"),
            "has not the size of its image",
        ),
        (
            lambda root: Image.new("L", (40, 30)).save(
                root / "ALLFIXATIONMAPS/a_street_fixPts.jpg"
            ),
            "1 images have no fixation, a_street among them",
        ),
    ],
)
def test_what_is_missing_or_damaged_is_named(copy, tmp_path, spoil, message):
    spoil(copy)
    with pytest.raises(DataError, match=message):
        FileSource.open(copy, tmp_path / "cache", "points")


def test_recordings_that_are_not_there_are_asked_for(copy, tmp_path):
    with pytest.raises(DataError, match=r"unpack DATA.zip there, or take the points"):
        FileSource.open(copy, tmp_path / "cache", "observers")
    (copy / "DATA" / "ajs").mkdir(parents=True)
    (copy / "DATA" / "ajs" / "a_street.mat").write_bytes(b"no matlab")
    (copy / "DATA" / "ajs" / "b_tree.mat").write_bytes(b"no matlab")
    with pytest.raises(DataError, match=r"a_street.mat is no MATLAB file that scipy reads"):
        FileSource.open(copy, tmp_path / "cache", "observers")
