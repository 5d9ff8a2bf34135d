"""Image folders: the layouts that people have, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from experiments.datasets.image_folder import (
    FileNames,
    find_split,
    read_image_folder,
    read_train_and_val,
)
from experiments.datasets.shape_images import CLASSES, NUM_IMAGES, draw, ensure_shapes5
from merge.errors import DataError, StorageError

SMALL = {"train/cat": ["b.JPEG", "a.jpg"], "train/ant": ["1.png"], "val/ant": ["x.jpg"]}
SMALL |= {"val/cat": ["y.webp", "z.bmp"]}


def make(root: Path, files: dict[str, list[str]]) -> Path:
    for folder, names in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).write_bytes(os.fsencode(name))
    return root


def test_a_class_is_the_place_of_its_name_and_files_are_in_order(tmp_path):
    train, val = read_train_and_val(make(tmp_path, SMALL))
    assert train.classes == val.classes == ("ant", "cat")
    assert list(train.files) == ["ant/1.png", "cat/a.jpg", "cat/b.JPEG"]
    assert train.labels.tolist() == [0, 1, 1]
    assert train.sizes.tolist() == [5, 5, 6]
    assert val.num_of_class().tolist() == [1, 2]
    assert val.path(2) == tmp_path / "val" / "cat" / "z.bmp"
    assert (len(val), val.files[-1], val.files[:1]) == (3, "cat/z.bmp", ["ant/x.jpg"])


@pytest.mark.parametrize("place", [".", "imagenet", "ILSVRC/Data/CLS-LOC"])
def test_the_splits_are_found_where_users_have_them(tmp_path, place):
    make(tmp_path / place, SMALL)
    assert len(read_image_folder(tmp_path, "train")) == 3


def test_validation_folders_of_other_names_and_stray_files_are_no_matter(tmp_path):
    make(tmp_path, {"train/a": ["1.JPEG", "._1.JPEG", "note.txt"], "train/.git": ["2.jpg"]})
    make(tmp_path, {"validation/a": ["3.JPEG"], "train/__MACOSX": []})
    assert [list(each.files) for each in read_train_and_val(tmp_path)] == [
        ["a/1.JPEG"],
        ["a/3.JPEG"],
    ]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"train/a": ["1.jpg"], "train/b": ["readme.txt"]}, r"1 of the 2 classes .*: b\. Unpack"),
        ({"test/a": ["1.jpg"]}, r"no folder train/ below .* \(test\)"),
        ({}, "it is empty"),
        ({"train": ["n01440764.tar"]}, "has no folder for each class"),
    ],
    ids=["class without images", "no split", "empty root", "not unpacked"],
)
def test_what_cannot_be_used_is_refused_with_what_is_there(tmp_path, files, complaint):
    with pytest.raises(DataError, match=complaint):
        read_image_folder(make(tmp_path, files), "train")


def test_a_root_that_is_no_folder_and_classes_that_differ_are_refused(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        find_split(tmp_path / "typo", "train")
    make(tmp_path, {**SMALL, "train/dog": ["1.jpg"], "val/eel": ["1.jpg"]})
    with pytest.raises(DataError, match=r"1 classes are only in .*train \(dog\); 1 .*val \(eel\)"):
        read_train_and_val(tmp_path)


def test_the_fingerprint_is_of_names_classes_and_sizes_not_of_places(tmp_path):
    roots = [make(tmp_path / name, SMALL) for name in ("one", "two")]
    one, two = (read_image_folder(root, "train") for root in roots)
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != read_image_folder(roots[0], "val").fingerprint
    (roots[1] / "train" / "ant" / "1.png").write_bytes(b"smaller copy")
    assert one.fingerprint != read_image_folder(roots[1], "train").fingerprint


def test_a_listing_is_kept_until_a_folder_changes(tmp_path, monkeypatch):
    root, cache = make(tmp_path / "data", SMALL), tmp_path / "cache"
    first = read_image_folder(root, "train", cache)
    monkeypatch.setattr("experiments.datasets.image_folder._of_folders", lambda *_: 1 / 0)
    again = read_image_folder(root, "train", cache)
    assert (list(again.files), again.fingerprint) == (list(first.files), first.fingerprint)
    (root / "train" / "cat" / "new.jpg").write_bytes(b"")
    with pytest.raises(ZeroDivisionError):
        read_image_folder(root, "train", cache)


def test_flat_validation_images_get_their_classes_from_kaggles_list(tmp_path):
    root = make(tmp_path, {"ILSVRC/Data/CLS-LOC/val": ["v_1.JPEG", "v_2.JPEG", "other.JPEG"]})
    solution = root / "LOC_val_solution.csv"
    solution.write_text("ImageId,PredictionString\nv_2,n02 1 2 3 4 n02 5 6 7 8\nv_1,n09 1 2 3 4\n")
    val = read_image_folder(root, "val")
    assert (val.classes, list(val.files)) == (("n02", "n09"), ["v_2.JPEG", "v_1.JPEG"])
    assert val.labels.tolist() == [0, 1]
    with solution.open("a") as file:
        file.write("v_3,n02 1 2 3 4\n")
    with pytest.raises(DataError, match=r"1 of the 3 images that are listed .*\(v_3\)"):
        read_image_folder(root, "val")


def test_flat_validation_images_get_their_classes_from_the_development_kit(tmp_path):
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3)]
    kit = make(tmp_path, {"val": names, "ILSVRC2012_devkit_t12/data": []}) / "ILSVRC2012_devkit_t12"
    synsets = np.array([(1, "n77"), (2, "n05")], dtype=[("ID", "i4"), ("WNID", "O")])
    savemat(kit / "data" / "meta.mat", {"synsets": synsets})
    truth = kit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n2\n1\n")
    val = read_image_folder(tmp_path, "val")
    assert val.classes == ("n05", "n77")
    assert list(val.files) == [names[1], names[0], names[2]]
    truth.write_text("1\n2\n3\n")
    with pytest.raises(DataError, match=r"holds 3, which meta\.mat does not name"):
        read_image_folder(tmp_path, "val")


def test_a_million_names_are_one_array(tmp_path):
    names = ["n01440764/ü.JPEG", "", "last"]
    text = np.frombuffer("".join(f"{name}\n" for name in names).encode(), np.uint8)
    files = FileNames(text)
    assert list(files) == names
    with pytest.raises(IndexError):
        files[3]
    strange = os.fsdecode(b"\xff.jpg")
    make(tmp_path, {"train/a": [strange]})
    assert read_image_folder(tmp_path, "train").files[0] == f"a/{strange}"


def test_the_generated_set_is_made_once_and_always_the_same(tmp_path):
    root = ensure_shapes5(tmp_path)
    train, val = read_train_and_val(ensure_shapes5(tmp_path))
    assert train.classes == val.classes == tuple(CLASSES)
    assert tuple(val.num_of_class()) == NUM_IMAGES["val"]
    assert (len(train), len(val)) == (200, 101)
    assert val.num_of_class().max() / len(val) < 0.3
    assert root.name == "shapes5-1"
    again = draw("val", "azure_ring", 3)
    with Image.open(val.path(3)) as image:
        difference = np.asarray(image, np.float64) - np.asarray(again, np.float64)
    assert abs(difference).mean() < 6  # of 255, by JPEG


def test_a_cache_folder_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        ensure_shapes5(tmp_path / "file")
