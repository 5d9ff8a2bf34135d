"""VOC layout: found wherever people keep it, read by label ids, refused with the fix."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.fewshot_trees import (
    PASCAL_SBD,
    PASCAL_SBD_VAL,
    PASCAL_TRAIN,
    PASCAL_VAL,
    add_voc_image,
    files_below,
    make_pascal,
    save_label_map,
    save_photograph,
    stripes,
    write_list,
)

from experiments.datasets.layouts import VOC_ROOTS, find_train_lists
from experiments.fewshot.episodes.source import Source, open_source
from merge.errors import DataError, StorageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_pascal(tmp_path / "data" / "VOC2012")


@pytest.fixture
def opened(root: Path, tmp_path: Path):
    def open_pascal() -> Source:
        return open_source("pascal5i", root, tmp_path / "cache")

    return open_pascal


@pytest.mark.parametrize("place", VOC_ROOTS)
def test_pascal_is_found_in_every_layout(tmp_path, place):
    make_pascal(tmp_path / "data" / place)
    source = open_source("pascal5i", tmp_path / "data", tmp_path / "cache")
    assert source.names("train") == (PASCAL_TRAIN, PASCAL_SBD)
    assert source.names("val") == (PASCAL_VAL,)
    assert source.names("train_all") == (PASCAL_TRAIN, PASCAL_SBD, PASCAL_SBD_VAL)


@pytest.mark.parametrize(
    "place",
    [
        "ImageSets/Segmentation/train_noval.txt",
        "ImageSets/Segmentation/sbd_train_noval.txt",
        "train_noval.txt",
        "sbd/train_noval.txt",
        "SBD/train_noval.txt",
        "../sbd/train_noval.txt",
        "../benchmark_RELEASE/dataset/train_noval.txt",
    ],
)
def test_the_list_of_sbd_is_found_in_its_usual_places(tmp_path, place):
    root = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    make_pascal(root, sbd_list=place)
    source = open_source("pascal5i", tmp_path / "data", tmp_path / "cache")
    assert source.names("train") == (PASCAL_TRAIN, PASCAL_SBD)


def test_label_maps_beside_the_devkit_are_found(root, tmp_path):
    shutil.move(root / "SegmentationClassAug", root.parent / "SegmentationClassAug")
    source = open_source("pascal5i", root.parent, tmp_path / "cache")
    assert source.class_areas("val") == {PASCAL_VAL: {3: 2003}}


def test_a_whole_data_set_is_taken_before_a_part_of_one(tmp_path):
    (tmp_path / "data" / "JPEGImages").mkdir(parents=True)
    make_pascal(tmp_path / "data" / "VOCdevkit" / "VOC2012")
    source = open_source("pascal5i", tmp_path / "data", tmp_path / "cache")
    assert source.names("val") == (PASCAL_VAL,)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_label_ids_are_read_whatever_the_palette_says(root, opened, mode):
    labels = stripes({20: 7, 255: 9})
    path = root / "SegmentationClassAug" / f"{PASCAL_VAL}.png"
    save_label_map(path, labels)
    if mode == "L":
        Image.fromarray(labels).save(path)
    mask = opened().mask(PASCAL_VAL)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, labels)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_photograph_of_any_mode_is_read_as_rgb(root, opened, mode):
    grey = Image.fromarray(np.full((64, 96), 90, np.uint8))
    grey.convert(mode).save(root / "JPEGImages" / f"{PASCAL_VAL}.jpg")
    image = opened().image(PASCAL_VAL)
    assert (image.shape, image.dtype) == ((64, 96, 3), np.uint8)
    assert np.abs(image.astype(int) - 90).max() <= 2


def test_class_areas_are_those_of_the_label_maps(opened):
    source = opened()
    assert source.class_areas("train") == {PASCAL_TRAIN: {1: 2001}, PASCAL_SBD: {2: 2002}}
    assert source.class_areas("val") == {PASCAL_VAL: {3: 2003}}


def test_fold_i_of_pascal_tests_classes_5i_plus_1_to_5i_plus_5(opened):
    source = opened()
    assert source.num_classes == 20
    assert source.folds[1] == (6, 7, 8, 9, 10)
    assert sorted(sum(source.folds, ())) == list(range(1, 21))


def test_opening_writes_nothing_into_the_data_root(root, opened):
    before = files_below(root)
    opened()
    assert files_below(root) == before


def test_the_fingerprint_is_the_same_for_a_copy_elsewhere(root, opened, tmp_path):
    copy = tmp_path / "other" / "VOCdevkit" / "VOC2012"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    elsewhere = open_source("pascal5i", tmp_path / "other", tmp_path / "cache2")
    assert elsewhere.fingerprint() == opened().fingerprint()


@pytest.mark.parametrize("change", ["one pixel", "one name in a list"])
def test_the_fingerprint_changes_with_the_data(root, opened, change):
    before = opened().fingerprint()
    if change == "one pixel":
        path = root / "SegmentationClassAug" / f"{PASCAL_VAL}.png"
        save_label_map(path, stripes({3: 2004, 255: 100}))
    else:
        write_list(root / "ImageSets/Segmentation/train_noval.txt", [PASCAL_TRAIN])
    assert opened().fingerprint() != before


@pytest.mark.parametrize("num_names", [5953, 10582])
def test_a_merged_list_counts_only_with_the_5953_names(tmp_path, num_names):
    lists = tmp_path / "ImageSets" / "Segmentation"
    write_list(lists / "train.txt", ["2007_000001"])
    lines = [f"JPEGImages/{i:06d}.jpg SegmentationClassAug/{i:06d}.png" for i in range(num_names)]
    write_list(lists / "train_aug.txt", lines)
    expected = (lists / "train_aug.txt",) if num_names == 5953 else ()
    assert find_train_lists(tmp_path, tmp_path) == expected


def test_without_the_list_of_sbd_only_the_training_list_is_refused(root, opened):
    (root / "ImageSets/Segmentation/train_noval.txt").unlink()
    source = opened()
    assert source.names("train_all") == (PASCAL_TRAIN, PASCAL_SBD, PASCAL_SBD_VAL)
    with pytest.raises(DataError, match=r"train_noval\.txt \(5,623 names"):
        source.names("train")


def _empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def _only_voc_masks(root: Path) -> None:
    (root / "SegmentationClassAug").rename(root / "SegmentationClass")


def _masks_emptied(root: Path) -> None:
    for path in (root / "SegmentationClassAug").iterdir():
        path.unlink()


def _truncated_mask(root: Path) -> None:
    path = root / "SegmentationClassAug" / f"{PASCAL_SBD}.png"
    path.write_bytes(path.read_bytes()[:-40])


def _colour_mask(root: Path) -> None:
    path = root / "SegmentationClassAug" / f"{PASCAL_SBD}.png"
    Image.new("RGB", (96, 64)).save(path)


def _val_image_in_training(root: Path) -> None:
    write_list(root / "ImageSets/Segmentation/train_noval.txt", [PASCAL_SBD, PASCAL_VAL])


DAMAGES = {
    "empty data root": (_empty, "is empty; accepted"),
    "no folder": (shutil.rmtree, "is no folder; accepted"),
    "neither images nor masks": (
        lambda root: [shutil.rmtree(root / f) for f in ("JPEGImages", "SegmentationClassAug")],
        r"no PASCAL VOC2012 below .* \(it holds ImageSets\); accepted",
    ),
    "images without masks": (
        lambda root: shutil.rmtree(root / "SegmentationClassAug"),
        "photographs but no label maps .*12,031",
    ),
    "label maps of VOC alone": (_only_voc_masks, r"SegmentationClass/ is VOC2012 alone.*SBD"),
    "no label map in the folder": (_masks_emptied, "holds no label map"),
    "masks without images": (
        lambda root: shutil.rmtree(root / "JPEGImages"),
        "no folder .*JPEGImages with their photographs: unpack VOCtrainval",
    ),
    "one image is missing": (
        lambda root: (root / "JPEGImages" / f"{PASCAL_SBD_VAL}.jpg").unlink(),
        rf"JPEGImages lacks the photographs of 1 \({PASCAL_SBD_VAL}\)",
    ),
    "a listed mask is missing": (
        lambda root: (root / "SegmentationClassAug" / f"{PASCAL_SBD}.png").unlink(),
        rf"lacks the label maps of 1 \({PASCAL_SBD}\)",
    ),
    "truncated mask": (_truncated_mask, rf"label map .*{PASCAL_SBD}\.png cannot be read"),
    "mask in colours": (_colour_mask, rf"{PASCAL_SBD}\.png has pixels of mode RGB"),
    "class ids over 20": (
        lambda root: add_voc_image(root, PASCAL_SBD, stripes({21: 5, 80: 5})),
        rf"{PASCAL_SBD}\.png holds the class ids 21, 80; this data set has 1\.\.20",
    ),
    "empty list": (
        lambda root: write_list(root / "ImageSets/Segmentation/val.txt", []),
        r"val\.txt is empty",
    ),
    "no list": (
        lambda root: (root / "ImageSets/Segmentation/val.txt").unlink(),
        r"val\.txt is missing; accepted",
    ),
    "a list that is no text": (
        lambda root: (root / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe\x00"),
        r"val\.txt cannot be read",
    ),
    "test image in training": (_val_image_in_training, rf"1 \({PASCAL_VAL}\) .*also in"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_pascal_is_refused_with_the_fix(root, opened, name):
    damage, message = DAMAGES[name]
    damage(root)
    with pytest.raises(DataError, match=message):
        opened()


def test_a_truncated_photograph_is_named(root, opened):
    path = root / "JPEGImages" / f"{PASCAL_VAL}.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    source = opened()
    with pytest.raises(DataError, match=rf"photograph .*{PASCAL_VAL}\.jpg cannot be read"):
        source.image(PASCAL_VAL)


def test_a_photograph_of_another_size_than_its_mask_is_named(root, opened):
    save_photograph(root / "JPEGImages" / f"{PASCAL_VAL}.jpg", 64, 95)
    source = opened()
    with pytest.raises(DataError, match=rf"{PASCAL_VAL}\.jpg has 95x64 pixels.* has 96x64"):
        source.image(PASCAL_VAL)


@pytest.mark.parametrize(
    ("dataset", "variant", "choices"),
    [
        ("pascal", "exact", "'pascal'; choose one of pascal5i, coco20i, shapes5i"),
        ("coco20i", "odd", "'odd'; choose one of exact, field"),
    ],
)
def test_an_unknown_choice_lists_the_choices(tmp_path, dataset, variant, choices):
    with pytest.raises(DataError, match=choices):
        open_source(dataset, tmp_path, tmp_path, variant)


@pytest.mark.parametrize("dataset", ["pascal5i", "coco20i"])
def test_real_data_without_a_data_root_asks_for_one(tmp_path, dataset):
    with pytest.raises(DataError, match="needs a data root: name its folder with --data-root"):
        open_source(dataset, None, tmp_path)


def test_a_cache_that_cannot_be_written_is_a_storage_error(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        open_source("pascal5i", root, tmp_path / "file" / "cache")
