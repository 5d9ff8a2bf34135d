"""SBD's MATLAB maps become PNGs; an interrupted conversion goes on where it stopped."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image
from support.fewshot_archives import mat_bytes, tar_bytes
from support.fewshot_trees import save_label_map

from experiments.datasets.prepare.manifest import Archive
from experiments.datasets.prepare.sbd import build_label_maps, label_map_of
from merge.errors import DataError

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
INSIDE = "benchmark_RELEASE/dataset/cls"
NAMES = ("2008_000001", "2008_000002", "2008_000003")


def test_the_map_of_a_mat_file_is_what_matlab_stored():
    assert np.array_equal(label_map_of(mat_bytes(LABELS), "a.mat"), LABELS)


@pytest.mark.parametrize(
    "content",
    [b"", b"no matlab", mat_bytes(LABELS)[:150], mat_bytes(LABELS + 10), mat_bytes(LABELS[None])],
    ids=["empty", "text", "cut off", "21 classes", "3-d"],
)
def test_a_mat_file_that_is_no_class_map_is_refused_by_name(content):
    with pytest.raises(DataError, match=r"2008_1\.mat"):
        label_map_of(content, "2008_1.mat")


@pytest.fixture
def sbd(tmp_path):
    """An SBD archive of three maps; VOC2012 has a map of the third and one more."""
    files = {f"{INSIDE}/{name}.mat": mat_bytes(LABELS) for name in NAMES}
    (tmp_path / "benchmark.tgz").write_bytes(tar_bytes(files, "w:gz"))
    for name in (NAMES[2], "2007_000009"):
        save_label_map(tmp_path / "voc" / f"{name}.png", np.full((3, 4), 255))
    return tmp_path


def build(folder, num_maps=4, num_mats=3):
    archive = Archive(file="benchmark.tgz", inside=INSIDE, holds={".": num_mats})
    target = folder / "SegmentationClassAug"
    build_label_maps(folder / "benchmark.tgz", archive, folder / "voc", target, num_maps)
    return {path.stem: np.array(Image.open(path)) for path in target.iterdir()}


def test_maps_of_both_are_joined_and_voc2012_counts_where_it_has_one(sbd):
    found = build(sbd)
    assert found.keys() == {*NAMES, "2007_000009"}
    assert np.array_equal(found[NAMES[0]], LABELS)
    assert (found[NAMES[2]] == 255).all()


def test_what_an_interrupted_conversion_made_is_kept_unless_it_is_broken(sbd):
    with pytest.raises(DataError, match="4 together, not 5"):
        build(sbd, num_maps=5)
    unfinished = sbd / ".SegmentationClassAug.unfinished"
    kept, broken = (unfinished / f"{name}.png" for name in NAMES[:2])
    os.utime(kept, (1, 1))
    broken.write_bytes(broken.read_bytes()[:40])
    (unfinished / "2008_000003.tmp").write_bytes(b"half")
    found = build(sbd)
    assert found.keys() == {*NAMES, "2007_000009"}
    assert np.array_equal(found[NAMES[1]], LABELS)
    assert (sbd / "SegmentationClassAug" / kept.name).stat().st_mtime == 1


def test_what_was_made_of_another_archive_is_not_taken(sbd):
    with pytest.raises(DataError):
        build(sbd, num_maps=5)
    files = {f"{INSIDE}/{name}.mat": mat_bytes(LABELS + 1) for name in NAMES}
    (sbd / "benchmark.tgz").write_bytes(tar_bytes(files, "w:gz"))
    assert np.array_equal(build(sbd)[NAMES[0]], LABELS + 1)


def test_an_archive_with_too_few_maps_is_refused(sbd):
    with pytest.raises(DataError, match="3 class maps, not 4"):
        build(sbd, num_mats=4)
    assert not (sbd / "SegmentationClassAug").exists()
