"""COCO2014: found wherever people keep it, drawn in two named variants, refused with the fix."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as rle_tools
from support.fewshot_trees import (
    COCO_CATEGORIES,
    annotation,
    box,
    coco_record,
    files_below,
    make_coco,
    save_photograph,
)

from experiments.datasets.coco_checks import region_problem
from experiments.datasets.coco_masks import CocoObject, rasterise
from experiments.datasets.layouts import COCO_ROOTS
from experiments.fewshot.episodes.source import Source, open_source
from merge.errors import DataError, RecordError

FIRST, SECOND = "COCO_train2014_000000000001", "COCO_train2014_000000000002"
TEST = "COCO_val2014_000000000003"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_coco(tmp_path / "data" / "COCO2014")


@pytest.fixture
def opened(root: Path, tmp_path: Path):
    def open_coco(mask_variant: str = "exact") -> Source:
        return open_source("coco20i", root, tmp_path / "cache", mask_variant)

    return open_coco


def thing(class_id: int, *polygons: list[float], is_crowd: bool = False) -> CocoObject:
    return CocoObject(class_id, is_crowd, list(polygons))


def painted(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    labels = np.zeros((40, 60), np.uint8)
    for class_id, left, top, right, bottom in boxes:
        labels[top:bottom, left:right] = class_id
    return labels


@pytest.mark.parametrize("photographs", [".", "images"])
@pytest.mark.parametrize("place", COCO_ROOTS)
def test_coco_is_found_in_every_layout(tmp_path, place, photographs):
    make_coco(tmp_path / "data" / place, photographs)
    source = open_source("coco20i", tmp_path / "data", tmp_path / "cache")
    assert source.names("train") == source.names("train_all") == (FIRST, SECOND)
    assert source.names("val") == (TEST,)
    assert source.image(TEST).shape == (40, 60, 3)


def test_class_ids_follow_the_sorted_category_ids(opened):
    source = opened()
    assert source.class_areas("train") == {FIRST: {1: 2000}, SECOND: {2: 100}}
    assert source.class_areas("val") == {TEST: {80: 400}}


def test_fold_i_of_coco_tests_every_fourth_class(opened):
    source = opened()
    assert source.num_classes == 80
    assert source.folds[1] == tuple(range(2, 81, 4))
    assert sorted(sum(source.folds, ())) == list(range(1, 81))


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("exact", painted((80, 5, 5, 15, 25), (80, 20, 5, 30, 25))),
        # OpenCV's polygons contain their corners.
        ("field", painted((80, 5, 5, 16, 26), (80, 20, 5, 31, 26))),
    ],
)
def test_the_variant_decides_the_masks_the_index_and_the_fingerprint(opened, variant, expected):
    source = opened(variant)
    np.testing.assert_array_equal(source.mask(TEST), expected)
    assert source.class_areas("val") == {TEST: {80: int((expected == 80).sum())}}
    assert source.mask_variant == variant
    assert source.fingerprint() != opened("field" if variant == "exact" else "exact").fingerprint()


OVERLAPS = {
    "exact puts the smaller object on top": (
        "exact",
        [thing(1, box(0, 0, 4, 4)), thing(2, box(2, 2, 30, 30))],
        painted((2, 2, 2, 30, 30), (1, 0, 0, 4, 4)),
    ),
    "field lets the later object overwrite": (
        "field",
        [thing(1, box(0, 0, 4, 4)), thing(2, box(2, 2, 30, 30))],
        painted((1, 0, 0, 5, 5), (2, 2, 2, 31, 31)),
    ),
    "field fills every polygon on truncated coordinates": (
        "field",
        [thing(1, [0.9, 0.9, 4.9, 0.9, 4.9, 4.9, 0.9, 4.9], box(10, 10, 12, 12))],
        painted((1, 0, 0, 5, 5), (1, 10, 10, 13, 13)),
    ),
    "exact puts a crowd below every object": (
        "exact",
        [thing(1, box(0, 0, 30, 30)), thing(2, box(20, 20, 40, 40), is_crowd=True)],
        painted((2, 20, 20, 40, 40), (1, 0, 0, 30, 30)),
    ),
    "field skips a crowd": (
        "field",
        [thing(1, box(0, 0, 30, 30)), thing(2, box(20, 20, 40, 40), is_crowd=True)],
        painted((1, 0, 0, 31, 31)),
    ),
    "a polygon of two points is no area": (
        "exact",
        [thing(1, [3.0, 3.0, 9.0, 9.0], box(0, 0, 4, 4)), thing(2, [1.0, 1.0, 5.0, 5.0])],
        painted((1, 0, 0, 4, 4)),
    ),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_objects_are_drawn_by_the_variant(name):
    variant, objects, expected = OVERLAPS[name]
    np.testing.assert_array_equal(rasterise(40, 60, objects, variant), expected)


@pytest.mark.parametrize("packed", [True, False])
def test_run_length_encodings_are_drawn(packed):
    expected = painted((7, 10, 5, 20, 15))
    rle = rle_tools.encode(np.asfortranarray(expected == 7))
    if not packed:
        # Column by column: 10 empty columns and 5 rows, then 10 of 40 rows in each of 10 columns.
        counts = [10 * 40 + 5, *[10, 30] * 9, 10, 40 * 40 + 25]
        rle = {"size": [40, 60], "counts": counts}
    labels = rasterise(40, 60, [CocoObject(7, True, rle)], "exact")
    np.testing.assert_array_equal(labels, expected)


def test_opening_writes_nothing_into_the_data_root(root, opened):
    before = files_below(root)
    opened()
    assert files_below(root) == before


def test_annotations_are_read_once(root, opened, caplog):
    caplog.set_level("INFO")
    first = opened().mask(TEST)
    assert sum("reading" in message for message in caplog.messages) == 2
    caplog.clear()
    np.testing.assert_array_equal(opened().mask(TEST), first)
    assert caplog.messages == []


def test_damaged_packed_masks_are_named(opened, tmp_path):
    source = opened()
    (maps,) = (tmp_path / "cache" / "index").glob("*-val-*.maps")
    maps.write_bytes(maps.read_bytes()[:10])
    with pytest.raises(RecordError, match=r"-val-.*\.maps is damaged .*delete .*\.\*"):
        source.mask(TEST)


def _rewrite(root: Path, **changes) -> None:
    path = root / "annotations" / "instances_val2014.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _annotate(*entries):
    return lambda root: _rewrite(root, annotations=list(entries))


def _poly(*numbers: float):
    return _annotate(annotation(3, 2, list(numbers)))


def _rle(counts: object):
    region = {"size": [40, 60], "counts": counts}
    return _annotate(annotation(3, 2, segmentation=region, iscrowd=1))


def _sized(height: object, width: object):
    def damage(root: Path) -> None:
        record = coco_record({3: f"{TEST}.jpg"}, [])
        record["images"][0].update(height=height, width=width)
        _rewrite(root, images=record["images"], annotations=[])

    return damage


def _categories(entries):
    return lambda root: _rewrite(root, annotations=[], categories=entries)


OF_302 = r"instances_val2014\.json: annotation 302 of the image 3 has "

DAMAGES = {
    "a coordinate that is no number": (
        _poly(0, 0, 9, float("nan"), 9, 9),
        f"{OF_302}the coordinate nan, far outside of its 60x40 pixels",
    ),
    "an infinite coordinate": (_poly(0, 0, 1e999, 0, 9, 9), f"{OF_302}the coordinate inf"),
    "an absurd coordinate": (_poly(0, 0, 1e30, 0, 9, 9), f"{OF_302}the coordinate 1e\\+30"),
    "a coordinate below the image by twice its size": (
        _poly(0, 0, 9, 81, 9, 9),
        f"{OF_302}the coordinate 81",
    ),
    "a negative coordinate": (_poly(0, 0, -61, 0, 9, 9), f"{OF_302}the coordinate -61"),
    "a coordinate too many": (_poly(0, 0, 9, 0, 9, 9, 5), f"{OF_302}a polygon of 7 coordinates"),
    "a coordinate in words": (
        _annotate(annotation(3, 2, [0, 0, "left", 0, 9, 9])),
        f"{OF_302}a polygon that is no list of numbers",
    ),
    "numbers instead of polygons": (
        _annotate(annotation(3, 2, segmentation=[0, 0, 9, 0, 9, 9])),
        f"{OF_302}a polygon that is no list of numbers",
    ),
    "no segmentation": (
        _annotate(annotation(3, 2, segmentation=None)),
        f"{OF_302}a segmentation that is neither",
    ),
    "run lengths of more pixels": (_rle([2000, 4_000_000_000]), "encoding of 4000002000 pixels"),
    "run lengths of fewer pixels": (_rle([5, 5]), f"{OF_302}a run-length encoding of 10 pixels"),
    "a negative run length": (_rle([2401, -1]), f"{OF_302}a run-length encoding that cannot be"),
    "packed run lengths of more pixels": (_rle("oooooo0"), "pixels for an image of 2400"),
    "packed run lengths that are cut": (_rle("oooo"), f"{OF_302}a run-length encoding that cannot"),
    "a negative height": (_sized(-40, 60), "the image 3 has the height -40, not 1 to 65500 pixels"),
    "no width": (_sized(40, 0), "the image 3 has the width 0"),
    "a huge image": (_sized(10**6, 10**6), "the image 3 has the height 1000000"),
    "a height that is no number": (_sized(float("nan"), 60), "the image 3 has the height nan"),
    "a height in words": (_sized("40", 60), "the image 3 has the height '40'"),
    "two images of one id": (
        lambda root: _rewrite(root, images=2 * coco_record({3: "a.jpg"}, [])["images"]),
        r"instances_val2014\.json lists the image 3 twice",
    ),
    "an image that is no object": (
        lambda root: _rewrite(root, images=["a.jpg"]),
        r"instances_val2014\.json is no instances_\*\.json of COCO2014, or is damaged",
    ),
    "other category ids in val": (
        _categories([{"id": category + 1} for category in COCO_CATEGORIES]),
        r"val2014\.json names other categories than .*instances_train2014\.json: category 2 is "
        r"missing there and '' here",
    ),
    "other category names in val": (
        _categories([{"id": category, "name": "cat"} for category in COCO_CATEGORIES]),
        "category 2 is 'cat' there and '' here",
    ),
    "a category twice": (
        _categories([{"id": category} for category in (*COCO_CATEGORIES, 2)]),
        "has 81 categories, COCO-20i divides 80",
    ),
    "empty data root": (lambda root: [shutil.rmtree(root), root.mkdir()], "is empty; accepted"),
    "no folder": (shutil.rmtree, "is no folder; accepted"),
    "something else": (
        lambda root: [shutil.rmtree(root), (root / "train2017").mkdir(parents=True)],
        r"no COCO2014 below .* \(it holds train2017\); accepted.*COCO2017",
    ),
    "images without annotations": (
        lambda root: shutil.rmtree(root / "annotations"),
        r"there is no .*instances_train2014\.json: unpack annotations_trainval2014\.zip",
    ),
    "annotations without images": (
        lambda root: shutil.rmtree(root / "val2014"),
        r"there is no folder .*val2014 with photographs: unpack val2014\.zip",
    ),
    "one image is missing": (
        lambda root: (root / "val2014" / f"{TEST}.jpg").unlink(),
        rf"val2014 lacks 1 \({TEST}\) of the 1 annotated photographs",
    ),
    "truncated annotations": (
        lambda root: (root / "annotations/instances_val2014.json").write_text('{"images": ['),
        r"instances_val2014\.json cannot be read",
    ),
    "annotations of another kind": (
        lambda root: (root / "annotations/instances_val2014.json").write_text("[]"),
        r"instances_val2014\.json holds no JSON object",
    ),
    "no categories": (
        lambda root: (root / "annotations/instances_val2014.json").write_text(
            '{"images": [{"id": 1}], "annotations": []}'
        ),
        r"instances_val2014\.json lacks 'categories'",
    ),
    "no images listed": (lambda root: _rewrite(root, images=[]), "lists no image"),
    "not 80 categories": (
        lambda root: _rewrite(root, categories=[{"id": 1}]),
        "has 1 categories, COCO-20i divides 80",
    ),
    "an unknown category": (
        _annotate(annotation(3, 3, box(0, 0, 5, 5))),
        "annotation 303 has the category 3",
    ),
    "an unknown image": (_annotate(annotation(9, 2, box(0, 0, 5, 5))), "annotates the image 9"),
    "an encoding of another size": (
        _annotate(annotation(3, 2, segmentation={"size": [2, 2], "counts": [4]}, iscrowd=1)),
        rf"objects of {TEST} cannot be drawn \(a run-length encoding of size \[2, 2\]",
    ),
    "an image twice": (
        lambda root: _rewrite(root, images=coco_record({1: "a.jpg", 3: "b/a.jpg"}, [])["images"]),
        r"lists a\.jpg twice",
    ),
    "no JPEG": (
        lambda root: _rewrite(root, images=coco_record({3: "a.png"}, [])["images"]),
        r"lists a\.png, which is no \.jpg",
    ),
    "training images for testing": (
        lambda root: shutil.copy(
            root / "annotations/instances_train2014.json",
            root / "annotations/instances_val2014.json",
        ),
        "both in the train and in the val annotations",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_coco_is_refused_with_the_fix(root, opened, name):
    damage, message = DAMAGES[name]
    damage(root)
    with pytest.raises(DataError, match=message):
        opened()


def test_a_photograph_of_another_size_than_annotated_is_named(root, opened):
    save_photograph(root / "val2014" / f"{TEST}.jpg", 40, 61)
    source = opened()
    with pytest.raises(DataError, match=rf"{TEST}\.jpg has 61x40 pixels.* for 60x40"):
        source.image(TEST)


def test_packed_run_lengths_are_counted_as_they_are_drawn():
    pixels = np.random.default_rng(0).integers(0, 2, (40, 60), dtype=np.uint8)
    rle = rle_tools.encode(np.asfortranarray(pixels))
    assert region_problem(rle, 40, 60) == ""
    assert region_problem({**rle, "counts": rle["counts"].decode()}, 40, 60) == ""
    assert region_problem({**rle, "counts": rle["counts"] + b"1"}, 40, 60) != ""


def test_a_polygon_may_go_over_the_edge_of_its_image():
    assert region_problem([[-2.0, -1.0, 61.5, 0.0, 60.0, 41.0]], 40, 60) == ""


def test_an_index_keeps_the_categories_that_its_file_names(opened, tmp_path):
    opened()
    (path,) = (tmp_path / "cache" / "index").glob("*-val-*.npz")
    with np.load(path) as arrays:
        assert json.loads(arrays["categories"].tobytes())[0] == [2, ""]


def test_a_photograph_of_a_billion_pixels_is_named(root, opened):
    source = opened()
    path = root / "val2014" / f"{TEST}.jpg"
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = b"\xff\x00\xff\x00"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{TEST}\.jpg cannot be read .*restore it"):
        source.image(TEST)
