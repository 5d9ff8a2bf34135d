"""HSNet's own lists of pairs: found beside the data, taken as they are, or refused by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.fewshot_trees import (
    PASCAL_SBD,
    PASCAL_TRAIN,
    PASCAL_VAL,
    add_voc_image,
    make_pascal,
    stripes,
    write_list,
)

from experiments.fewshot.episodes import lists as episode_lists
from experiments.fewshot.episodes.protocols import build_split
from experiments.fewshot.episodes.source import open_source
from merge.errors import DataError

TRAIN_1, TRAIN_2, VAL_3 = f"{PASCAL_TRAIN}__01", f"{PASCAL_SBD}__02", f"{PASCAL_VAL}__03"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_pascal(tmp_path / "data" / "VOC2012").parent


@pytest.fixture
def split(root, tmp_path):
    def build(name: str, fold: int = 0, protocol: str = "hsnet", **options):
        source = open_source("pascal5i", root, tmp_path / "cache")
        return build_split(source, protocol, fold, name, **options)

    return build


def write_lists(folder: Path, trn: dict[int, list[str]], val: dict[int, list[str]]) -> None:
    for name, lists in (("trn", trn), ("val", val)):
        for fold, lines in lists.items():
            write_list(folder / name / f"fold{fold}.txt", lines)


@pytest.mark.parametrize("place", ["splits/pascal", "data/splits/pascal", "VOC2012/splits/pascal"])
def test_a_test_list_beside_the_data_is_taken_as_it_is(root, split, place):
    write_lists(root / place, {}, {0: [VAL_3]})
    found = split("val")
    assert (found.pair_list, found.pairs, found.queries) == (
        "file",
        ((PASCAL_VAL, 3),),
        (PASCAL_VAL,),
    )
    content = (root / place / "val" / "fold0.txt").read_bytes()
    assert found.pair_list_hash == hashlib.sha256(content).hexdigest()[:16]


def test_without_files_the_pairs_are_derived_and_the_split_says_so(split):
    found = split("val", min_area_px=100)
    assert (found.pair_list, found.pairs) == ("derived", ((PASCAL_VAL, 3),))


def test_an_area_limit_that_was_asked_for_goes_before_the_files(root, split):
    write_lists(root / "splits/pascal", {}, {0: [VAL_3]})
    assert split("val", min_area_px=100).pair_list == "derived"


def test_protocol_bam_takes_no_notice_of_the_files(root, split):
    write_lists(root / "splits/pascal", {}, {0: ["damaged"]})
    assert split("val", protocol="bam", min_area_px=100).pair_list == "derived"


def test_training_takes_the_files_of_the_other_folds_one_after_the_other(root, split):
    add_voc_image(root / "VOC2012", "2007_000009", stripes({6: 900, 11: 800}))
    lists = {0: [TRAIN_2, TRAIN_1], 1: ["2007_000009__06"], 2: ["2007_000009__11"]}
    write_lists(root / "splits/pascal", lists, {})
    found = split("train", fold=3)
    assert [f"{name}__{class_id:02d}" for name, class_id in found.pairs] == [
        *lists[0],
        *lists[1],
        *lists[2],
    ]
    assert found.queries == (PASCAL_TRAIN, "2007_000009", PASCAL_SBD)
    assert episode_lists.epoch_length(found) == 4
    with pytest.raises(DataError, match=r"trn/fold3\.txt is missing"):
        split("train", fold=1)


def test_an_empty_list_is_refused(root, split):
    write_lists(root / "splits/pascal", {}, {0: []})
    with pytest.raises(DataError, match=r"val/fold0\.txt is empty"):
        split("val")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2007_000003", r"fold0\.txt, line 1: .* no pair such as 2007_000033__01"),
        (f"{PASCAL_VAL}__06", r"line 1: class 6 is not one of this fold's \(1, 2, 3, 4, 5\)"),
        (f"{PASCAL_VAL}__01", "class that its label map does not show"),
        (TRAIN_1, "name an image that is not for val"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(root, split, line, message):
    write_lists(root / "splits/pascal", {}, {0: [line]})
    with pytest.raises(DataError, match=message):
        split("val")


def test_a_folder_of_lists_that_lacks_one_is_refused_with_the_fix(root, split):
    write_lists(root / "splits/pascal", {}, {0: [VAL_3]})
    with pytest.raises(DataError, match=r"val/fold1\.txt is missing: .* or move .* away"):
        split("val", fold=1)
