"""The class index: exact, built once, kept by content and rebuilt where it is gone."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from experiments.datasets.index import (
    ClassIndex,
    ImageLabels,
    cached_arrays,
    files_stamp,
    index_path,
)
from merge.errors import RecordError

label_maps = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.sampled_from([0, 0, 1, 2, 20, 80, 255]),
)


def build(maps: list[np.ndarray]) -> ClassIndex:
    names = [f"bild_ü{row}" for row in range(len(maps))]
    return ClassIndex.build(names, [ImageLabels.of(labels) for labels in maps])


@given(st.lists(label_maps, max_size=5))
def test_the_index_counts_every_class_pixel_and_survives_its_arrays(maps):
    index = ClassIndex.from_arrays(build(maps).to_arrays())
    assert index.class_areas() == {
        name: {c: int((labels == c).sum()) for c in (1, 2, 20, 80) if (labels == c).any()}
        for name, labels in zip(index.names, maps, strict=True)
    }
    assert index.sizes.tolist() == [list(labels.shape) for labels in maps]
    assert index.digest() == build(maps).digest()


@pytest.mark.parametrize(
    "other",
    [[[[1, 1], [0, 2]]], [[[1, 1, 0, 0]]], [[[1, 1], [0, 0]], [[0]]]],
    ids=["areas", "size", "names"],
)
def test_the_digest_changes_with_the_content(other):
    maps = [np.array(labels, np.uint8) for labels in other]
    assert build(maps).digest() != build([np.array([[1, 1], [0, 0]], np.uint8)]).digest()


def test_of_many_at_once_only_one_builds(tmp_path):
    path = index_path(tmp_path, "demo", "0" * 16)
    builds: list[int] = []
    together = Barrier(4)

    def open_index(number: int) -> list[int]:
        together.wait()
        arrays = cached_arrays(path, lambda: builds.append(number) or {"x": np.arange(3)})
        return arrays["x"].tolist()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(open_index, range(4))) == [[0, 1, 2]] * 4
    assert len(builds) == 1


def test_a_build_that_fails_leaves_no_index(tmp_path):
    path = index_path(tmp_path, "demo", "0" * 16)

    def fail():
        raise RecordError("no")

    with pytest.raises(RecordError):
        cached_arrays(path, fail)
    assert cached_arrays(path, lambda: {"x": np.zeros(1)})["x"].tolist() == [0]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_index_is_named_and_rebuilt_once_deleted(tmp_path, content):
    path = index_path(tmp_path, "demo", "0" * 16)
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"demo-0+\.npz is damaged .*delete"):
        cached_arrays(path, dict)
    path.unlink()
    assert cached_arrays(path, lambda: {"x": np.ones(1)})["x"].tolist() == [1]


@pytest.mark.parametrize("change", ["content", "time", "name", "context"])
def test_the_stamp_changes_with_the_files(tmp_path, change):
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    before = files_stamp([path], 20)
    assert files_stamp([path], 20) == before
    if change == "content":
        path.write_bytes(b"three")
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "name":
        path = path.rename(tmp_path / "b.png")
    assert files_stamp([path], 21 if change == "context" else 20) != before
