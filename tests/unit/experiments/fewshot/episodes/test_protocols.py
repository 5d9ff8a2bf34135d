"""Protocols: which images a fold trains and tests on, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fewshot_trees import add_voc_image, stripes, write_list

from experiments.datasets.layouts import voc_layout
from experiments.datasets.voc import VocSource
from experiments.fewshot.episodes.lists import epoch_length
from experiments.fewshot.episodes.protocols import (
    base_classes,
    build_split,
    novel_classes,
    usable_classes,
)
from experiments.fewshot.episodes.source import contiguous_folds, interleaved_folds
from merge.errors import DataError

IMAGES = {
    "train": {
        "base_small": {6: 2047},
        "base": {6: 2048},
        "bases": {7: 3000, 6: 2048, 20: 10},
        "base_and_novel_dot": {6: 3000, 1: 1},
        "novel": {1: 3000},
        "nothing": {},
    },
    "val": {
        "val_novel": {1: 2048, 2: 2048, 6: 1000},
        "val_small": {1: 2047},
        "val_base": {6: 3000},
        "val_again": {1: 5000},
    },
}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> VocSource:
    """Six images for training and four for testing, by the names and areas of IMAGES."""
    root = tmp_path_factory.mktemp("voc")
    for image_list, images in IMAGES.items():
        for name, areas in images.items():
            add_voc_image(root, name, stripes(areas))
        write_list(root / "ImageSets" / "Segmentation" / f"{image_list}.txt", list(images))
    return VocSource.open("shapes5i", voc_layout(root), contiguous_folds(20), root / "cache")


def test_bam_trains_on_images_with_enough_of_a_base_class_and_no_novel_pixel(source):
    split = build_split(source, "bam", 0, "train")
    assert split.queries == ("base", "bases")
    assert split.images_by_class[6] == ("base", "bases")
    assert split.images_by_class[7] == ("bases",)
    assert split.class_ids == split.base == tuple(range(6, 21))
    assert not split.novel_is_background


def test_bam_asks_a_query_for_every_class_that_it_shows_and_hsnet_for_those_of_its_pairs(source):
    assert build_split(source, "bam", 0, "train").classes_by_image == {
        "base": (6,),
        "bases": (6, 7, 20),
    }
    assert build_split(source, "hsnet", 0, "train").classes_by_image["bases"] == (6, 7)


def test_bam_tests_on_images_with_enough_of_a_novel_class(source):
    split = build_split(source, "bam", 0, "val")
    assert split.queries == ("val_again", "val_novel")
    assert split.images_by_class == {
        1: ("val_again", "val_novel"),
        2: ("val_novel",),
        3: (),
        4: (),
        5: (),
    }
    assert split.class_ids == split.novel == (1, 2, 3, 4, 5)


def test_hsnet_keeps_images_with_novel_classes_as_background(source):
    split = build_split(source, "hsnet", 0, "train")
    assert split.pairs == (("base", 6), ("base_and_novel_dot", 6), ("bases", 6), ("bases", 7))
    assert split.novel_is_background
    assert not build_split(source, "hsnet", 0, "val").novel_is_background


def test_the_area_limit_is_an_option(source):
    split = build_split(source, "bam", 0, "train", min_area_px=10)
    assert split.queries == ("base", "base_small", "bases")
    assert split.classes_by_image["bases"] == (6, 7, 20)
    assert split.min_area_px == 10


@pytest.mark.parametrize(("shot", "expected"), [(1, (1,)), (2, ())])
def test_a_class_is_usable_with_one_image_more_than_shots(source, shot, expected):
    assert usable_classes(build_split(source, "bam", 0, "val"), shot) == expected


@pytest.mark.parametrize("fold", [-1, 4, 7])
def test_a_fold_out_of_range_lists_the_folds(source, fold):
    with pytest.raises(DataError, match=f"no fold {fold}; choose one of 0, 1, 2, 3"):
        build_split(source, "bam", fold, "val")


def test_an_unknown_protocol_lists_the_protocols(source):
    with pytest.raises(DataError, match="'pfenet'; choose one of bam, hsnet"):
        build_split(source, "pfenet", 0, "val")


def test_a_fold_without_images_is_refused(source):
    with pytest.raises(DataError, match="keeps no val image of shapes5i fold 3"):
        build_split(source, "bam", 3, "val")


@dataclass(frozen=True)
class Table:
    """A source of class areas alone, by list."""

    areas: Mapping[str, Mapping[str, dict[int, int]]]
    folds: tuple[tuple[int, ...], ...]
    name: str = "pascal5i"

    @property
    def num_classes(self) -> int:
        return sum(len(fold) for fold in self.folds)

    def class_areas(self, image_list: str) -> Mapping[str, dict[int, int]]:
        return self.areas[image_list]

    def listed_pairs(self, split: str, fold: int) -> None:  # noqa: ARG002
        return None


areas = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.dictionaries(st.integers(1, 20), st.integers(1, 5000), max_size=4),
    max_size=12,
)


@given(
    table=areas,
    fold=st.integers(0, 3),
    protocol=st.sampled_from(["bam", "hsnet"]),
    name=st.sampled_from(["train", "val"]),
    folds=st.sampled_from([contiguous_folds(20), interleaved_folds(20)]),
)
def test_a_split_holds_exactly_the_images_of_its_rule(table, fold, protocol, name, folds):
    image_list = "train_all" if (protocol, name) == ("hsnet", "train") else name
    source = Table({image_list: table}, folds)
    novel, limit = set(folds[fold]), 2660 if protocol == "hsnet" else 2048
    expected = {
        (image, c)
        for image, found in table.items()
        for c, pixels in found.items()
        if pixels >= limit and (c in novel) == (name == "val")
        if (protocol, name) != ("bam", "train") or not novel & found.keys()
    }
    if not expected:
        with pytest.raises(DataError):
            build_split(source, protocol, fold, name)
        return
    split = build_split(source, protocol, fold, name)
    by_image = sorted(expected)
    by_class = sorted(expected, key=lambda pair: pair[::-1])
    assert split.pairs == tuple(by_image if name == "val" else by_class)
    assert split.pair_list == "derived"
    assert split.queries == tuple(sorted({image for image, _ in expected}))
    assert [(image, c) for c, images in split.images_by_class.items() for image in images] == (
        by_class
    )


@pytest.mark.parametrize(
    ("dataset", "protocol", "length"),
    [("pascal5i", "bam", 2), ("pascal5i", "hsnet", 3), ("coco20i", "hsnet", 2)],
)
def test_a_pass_over_the_training_set_is_of_images_or_of_hsnets_pairs(dataset, protocol, length):
    table = {"a": {7: 3000, 8: 3000}, "b": {7: 3000}}
    source = Table({"train": table, "train_all": table}, contiguous_folds(20), dataset)
    assert epoch_length(build_split(source, protocol, 0, "train")) == length


@pytest.mark.parametrize("folds", [contiguous_folds(20), interleaved_folds(80)])
def test_each_class_is_novel_in_one_fold_and_base_in_three(folds):
    source = Table({}, folds)
    for fold in range(4):
        novel, base = novel_classes(source, fold), base_classes(source, fold)
        assert sorted(novel + base) == list(range(1, source.num_classes + 1))
        assert len(novel) == source.num_classes // 4
    assert len({c for fold in range(4) for c in novel_classes(source, fold)}) == source.num_classes
