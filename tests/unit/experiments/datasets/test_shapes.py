"""What shapes5i promises of its classes, its plan and its pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from experiments.datasets.shapes import (
    CLASSES,
    VERSION,
    ensure_shapes5i,
    plan_scenes,
    render,
    voc_palette,
    write_scene,
)
from merge.errors import StorageError

SPLITS = ("train", "val")


def traits(shape_class) -> set[str]:
    look = shape_class.look
    return {look.shape, look.texture, f"hue {look.hue}"}


def test_no_two_classes_share_more_than_one_trait():
    assert [shape_class.class_id for shape_class in CLASSES] == list(range(1, 21))
    assert all(len(traits(a) & traits(b)) <= 1 for a, b in combinations(CLASSES, 2))


def test_each_trait_belongs_to_two_classes_of_different_folds():
    folds_of: dict[str, set[int]] = {}
    for shape_class in CLASSES:
        for trait in traits(shape_class):
            folds_of.setdefault(trait, set()).add((shape_class.class_id - 1) // 5)
    assert len(folds_of) == 30
    assert all(len(folds) == 2 for folds in folds_of.values())


@pytest.mark.parametrize(("split", "per_class"), [("train", 30), ("val", 12)])
def test_every_class_is_in_equally_many_scenes_and_once_in_each(split, per_class):
    scenes = plan_scenes(split)
    counts = Counter(class_id for scene in scenes for class_id in scene.class_ids)
    assert counts == dict.fromkeys(range(1, 21), per_class)
    assert all(len(set(scene.class_ids)) == len(scene.class_ids) for scene in scenes)


@pytest.mark.parametrize("split", SPLITS)
def test_most_scenes_hold_objects_of_other_classes_too(split):
    scenes = plan_scenes(split)
    assert sum(len(scene.class_ids) > 1 for scene in scenes) / len(scenes) > 0.7


def test_the_splits_share_no_picture():
    train, val = ({scene.name for scene in plan_scenes(split)} for split in SPLITS)
    assert not train & val


@pytest.mark.parametrize("scene", plan_scenes("val")[:12], ids=lambda scene: scene.name)
def test_a_label_map_holds_the_scenes_classes_with_boundaries_between(scene):
    image, labels = render(scene)
    assert image.shape == (*labels.shape, 3)
    assert image.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 255, *scene.class_ids}
    for line in (labels, labels.T):
        before, after = line[:-1].astype(int), line[1:].astype(int)
        assert ((before == after) | (before == 255) | (after == 255)).all()


def test_a_picture_does_not_depend_on_what_was_drawn_before_it():
    first, second = plan_scenes("train")[:2]
    alone = render(second)
    render(first)
    again = render(second)
    assert all(np.array_equal(a, b) for a, b in zip(alone, again, strict=True))


def test_pictures_change_only_with_the_version():
    digest = hashlib.sha256()
    for scene in plan_scenes("train")[::45] + plan_scenes("val")[::45]:
        for array in render(scene):
            digest.update(array.tobytes())
    assert (VERSION, digest.hexdigest()[:16]) == (1, "7fd3ef616c113c45")


def test_the_palette_is_the_one_of_voc():
    first = [tuple(voc_palette()[3 * label : 3 * label + 3]) for label in (0, 1, 2, 8, 20, 255)]
    assert first == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (64, 0, 0),
        (0, 64, 128),
        (224, 224, 192),
    ]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"shapes5i-1.*choose another folder"):
        ensure_shapes5i(tmp_path / "file" / "below")


def test_objects_are_large_enough_to_be_counted():
    areas = [
        np.count_nonzero(labels == class_id)
        for scene in plan_scenes("val")[:30]
        for labels in [render(scene)[1]]
        for class_id in scene.class_ids
    ]
    assert np.mean(np.array(areas) >= 2048) > 0.9


def test_a_label_map_survives_its_palette(tmp_path):
    scene = plan_scenes("train")[0]
    for folder in ("JPEGImages", "SegmentationClassAug"):
        (tmp_path / folder).mkdir()
    write_scene(tmp_path, scene)
    image, labels = render(scene)
    with Image.open(tmp_path / "SegmentationClassAug" / f"{scene.name}.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), labels)
    with Image.open(tmp_path / "JPEGImages" / f"{scene.name}.jpg") as photograph:
        assert np.abs(np.asarray(photograph).astype(int) - image).mean() < 4
