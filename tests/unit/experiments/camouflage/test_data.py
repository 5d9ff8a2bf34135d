"""COD10K where people have it: layouts, masks, the validation images, the generated set."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.camouflage.data.layouts import find_cod10k
from experiments.camouflage.data.loading import EvalImages, TrainImages
from experiments.camouflage.data.pairs import object_of, read_pair, read_pairs
from experiments.camouflage.data.splits import open_data
from experiments.camouflage.options import AugmentOptions, DataOptions
from experiments.datasets.tiny_cod10k import COUNTS, draw
from merge.errors import DataError, UsageError

TINY = DataOptions(dataset="tiny_cod10k")


def copied(tiny, root, *, layout="COD10K-v3"):
    """The set in one of the two layouts."""
    if layout == "COD10K-v3":
        shutil.copytree(tiny, root)
        return root
    for split, folder in (("Train", "TrainDataset"), ("Test", "TestDataset/COD10K")):
        shutil.copytree(tiny / split / "Image", root / folder / "Imgs")
        shutil.copytree(tiny / split / "GT_Object", root / folder / "GT")
    return root


@pytest.mark.parametrize(
    ("place", "layout"),
    [
        (".", "COD10K-v3"),
        ("COD10K-v3", "COD10K-v3"),
        ("my data", "COD10K-v3"),
        ("COD10K/COD10K-v3", "COD10K-v3"),
        ("Dataset", "TrainDataset"),
    ],
)
def test_a_copy_is_found_in_both_layouts_wherever_it_lies(tmp_path, tiny, place, layout):
    root = copied(tiny, tmp_path / "data" / place, layout=layout)
    found = find_cod10k(tmp_path / "data")
    assert (found.name, found.root) == (layout, root)
    pairs = read_pairs(found.splits["test"], "cam")
    assert len(pairs) == COUNTS["test"]
    assert all("-CAM-" in pair.name for pair in pairs)
    for kind in ("images", "masks"):
        (getattr(found.splits["test"], kind) / "._a.png").write_bytes(b"what a Mac leaves behind")
    assert len(read_pairs(found.splits["test"], "all")) == COUNTS["test"] + 3


def test_a_list_of_the_camouflaged_images_decides_where_there_is_one(tmp_path, tiny):
    root = copied(tiny, tmp_path / "COD10K-v3")
    names = sorted(path.stem for path in (root / "Test" / "Image").glob("*-CAM-*"))[:4]
    (root / "Info").mkdir()
    lines = "".join(f"{name}.jpg 1\n" for name in names)
    (root / "Info" / "CAM_test.txt").write_text(lines)
    folders = find_cod10k(root).splits["test"]
    assert [pair.name for pair in read_pairs(folders, "cam")] == names
    (root / "Info" / "CAM_test.txt").write_text(lines + "COD10K-CAM-9-Gone.jpg\n")
    with pytest.raises(DataError, match=r"lacks 1 \(COD10K-CAM-9-Gone\) of the 5 images"):
        read_pairs(folders, "cam")


def test_what_is_missing_is_said_with_the_way_to_get_it(tmp_path, tiny):
    for root, words in (
        (None, "no data root is named"),
        (tmp_path / "nowhere", "is no folder"),
        (tmp_path, "which holds nothing"),
    ):
        with pytest.raises(DataError, match=words) as refused:
            find_cod10k(root)
        assert "get COD10K-v3.zip" in str(refused.value)
    root = copied(tiny, tmp_path / "COD10K-v3")
    shutil.rmtree(root / "Test" / "GT_Object")
    with pytest.raises(DataError, match=r"there is no .*COD10K-v3/Test with a folder of images"):
        find_cod10k(tmp_path)


def test_an_image_without_its_mask_and_one_of_another_size_are_refused_by_name(tmp_path, tiny):
    root = copied(tiny, tmp_path / "COD10K-v3")
    folders = find_cod10k(root).splits["test"]
    first, second, *_ = read_pairs(folders, "cam")
    Image.new("L", (3, 5)).save(second.mask)
    with pytest.raises(DataError, match=r"its mask .* 3x5: take both"):
        read_pair(second)
    second.image.write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_pair(second)
    first.mask.unlink()
    with pytest.raises(DataError, match=rf"lacks the masks of 1 \({first.name}\) of the 19"):
        read_pairs(folders, "cam")


def test_validation_images_are_drawn_from_the_training_images_and_are_no_sorted_part(tiny):
    """The original validated on the first fifth of its sorted test files."""
    data = open_data(TINY, None, tiny.parent)
    assert len(data.train) + len(data.validation) == COUNTS["train"]
    names = [{pair.name for pair in part} for part in (data.train, data.validation, data.test)]
    assert len(frozenset.union(*map(frozenset, names))) == sum(map(len, names))
    trained = sorted(names[0] | names[1])
    assert sorted(names[1]) != trained[: len(names[1])]
    assert len(data.test) == COUNTS["test"]
    again, other = (
        open_data(DataOptions(dataset="tiny_cod10k", validation_seed=seed), None, tiny.parent)
        for seed in (0, 1)
    )
    assert again.validation == data.validation != other.validation


def test_choosing_on_the_test_images_takes_none_from_training(tiny):
    data = open_data(DataOptions(dataset="tiny_cod10k", best_on="test"), None, tiny.parent)
    assert (len(data.train), data.validation) == (COUNTS["train"], ())
    with pytest.raises(UsageError, match="validation=0 leaves no image"):
        DataOptions(validation=0)


def test_training_images_follow_from_seed_epoch_and_index_alone(tiny):
    data = open_data(TINY, None, tiny.parent)
    images = [TrainImages(data.train, 32, AugmentOptions(), 3, epoch) for epoch in (0, 0, 1)]
    first, again, later = (each[5].image for each in images)
    assert (first == again).all()
    assert (first != later).any()
    batch = images[0][5]
    assert batch.image.shape == (3, 32, 32)
    assert batch.truth.shape == (1, 32, 32)
    assert set(batch.truth.unique().tolist()) == {0, 1}


def test_tested_images_keep_their_masks_at_their_own_size(tiny):
    data = open_data(TINY, None, tiny.parent)
    sizes = set()
    for item, pair in zip(list(EvalImages(data.test, 32)), data.test, strict=True):
        assert item.image.shape == (3, 32, 32)
        assert item.truth.shape == np.asarray(Image.open(pair.mask)).shape
        sizes.add(item.truth.shape)
    assert len(sizes) > 5


def test_generated_objects_have_the_colours_of_their_ground():
    differences = []
    for number in range(8):
        image_HW3, mask_HW = draw(f"image {number}", has_object=True)
        inside = object_of(Image.fromarray(mask_HW))
        assert 0.03 < inside.mean() < 0.6
        differences.append(image_HW3[inside].mean(0) - image_HW3[~inside].mean(0))
    assert np.abs(np.mean(differences, axis=0)).max() < 3
