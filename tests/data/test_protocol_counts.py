"""The published image counts of the protocols, and what feature cells lose, on real label maps."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from experiments.backbones.build import build_backbone
from experiments.backbones.cells import CellGrid, cells_to_pixels, pixels_to_cells
from experiments.datasets.layouts import VocLayout
from experiments.datasets.voc import VocSource
from experiments.fewshot.episodes import lists as episode_lists
from experiments.fewshot.episodes.bam import episode_list_hash
from experiments.fewshot.episodes.hsnet import hsnet_test_episodes
from experiments.fewshot.episodes.protocols import build_split, novel_classes, usable_classes
from experiments.fewshot.episodes.source import contiguous_folds, open_source
from experiments.fewshot.episodes.transforms import FitLongerSide, binary_mask, restore_logits
from experiments.fewshot.metrics import IoUCounts, episode_counts
from experiments.fewshot.verify.__main__ import main as verify

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def pascal(real_data: Path, tmp_path_factory) -> VocSource:
    """PASCAL-5i of label maps and lists alone, without a photograph."""
    given, root = real_data / "pascal-masks", tmp_path_factory.mktemp("pascal")
    with tarfile.open(given / "SegmentationClassAug.tar.xz") as archive:
        archive.extractall(root, filter="data")
    layout = VocLayout(
        photographs=root / "JPEGImages",
        masks=root / "SegmentationClassAug",
        train_lists=(given / "train.txt", given / "sbd_train_noval.txt"),
        val_list=given / "val.txt",
    )
    yield VocSource.open("pascal5i", layout, contiguous_folds(20), root / "cache")
    shutil.rmtree(root)


def test_the_lists_of_pascal_have_the_published_lengths(pascal):
    lengths = [len(pascal.names(name)) for name in ("train", "train_all", "val")]
    assert lengths == [5953, 10582, 1449]


@pytest.mark.parametrize(
    ("split", "expected"), [("train", [4208, 3726, 2752, 4510]), ("val", [364, 445, 592, 336])]
)
def test_bam_on_pascal_keeps_the_published_images(pascal, split, expected):
    counts = [len(build_split(pascal, "bam", fold, split).queries) for fold in range(4)]
    assert counts == expected


def test_bam_asks_some_queries_of_pascal_for_an_object_below_the_limit(pascal):
    shares = []
    for fold in range(4):
        split = build_split(pascal, "bam", fold, "val")
        pairs = set(split.pairs)
        small = [
            sum((query, c) not in pairs for c in classes) / len(classes)
            for query, classes in split.classes_by_image.items()
        ]
        shares.append(round(100 * sum(small) / len(small), 1))
    assert shares == [0.4, 1.3, 0.9, 2.2]


def test_a_copy_of_pascal_is_verified_against_these_counts(pascal, real_data, tmp_path, capsys):
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    given = real_data / "pascal-masks"
    for source, name in {"train": "train", "val": "val", "sbd_train_noval": "train_noval"}.items():
        (lists / f"{name}.txt").symlink_to(given / f"{source}.txt")
    (tmp_path / "SegmentationClassAug").symlink_to(pascal.layout.masks)
    (tmp_path / "JPEGImages").mkdir()
    code = verify(["--datasets", "pascal5i", "--data-root", str(tmp_path), "--json"])
    (entry,) = json.loads(capsys.readouterr().out)["datasets"]
    # Only the photographs are missing.
    assert (code, entry["problems_by_kind"]) == (3, {"count": 1, "photograph": 12_031})
    counts = [entry["checked"][f"bam_train of fold {fold}"] for fold in range(4)]
    assert counts == [4208, 3726, 2752, 4510]


@pytest.mark.parametrize(
    ("split", "published"), [("train", [11394, 10255, 7797, 11594]), ("val", [346, 451, 725, 346])]
)
def test_hsnet_on_pascal_comes_within_one_percent_of_the_published_pairs(pascal, split, published):
    counts = [len(build_split(pascal, "hsnet", fold, split).pairs) for fold in range(4)]
    assert counts == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("fold", "least"), list(enumerate([0.91, 0.97, 0.975, 0.965])))
def test_cells_where_the_backbone_has_them_lose_little_of_a_perfect_answer(pascal, fold, least):
    """The share of each cell as logits: with cells half a cell off, 0.880 0.945 0.952 0.939."""
    split = build_split(pascal, "bam", fold, "val")
    grid = build_backbone("resnet50", from_scratch=True, levels=(2,)).grid((473, 473))
    drawn = Counter(
        (episode.query, episode.class_id)
        for episode in episode_lists.test_list(split, shot=1, num_episodes=1000, seed=321)
    )
    counts = IoUCounts.empty(split.class_ids)
    for (query, class_id), times in drawn.items():
        truth_HW = binary_mask(pascal.mask(query), class_id)
        row = episode_counts(_restored_from_cells(truth_HW, grid), truth_HW)
        counts.counts[split.class_ids.index(class_id)] += times * row
    assert counts.miou() > least


def _restored_from_cells(truth_HW: np.ndarray, grid: CellGrid) -> np.ndarray:
    black_HW3 = np.zeros((*truth_HW.shape, 3), np.uint8)
    sample, placement = FitLongerSide(size=473)(black_HW3, truth_HW)
    share = pixels_to_cells((sample.mask == 1).float()[None, None], grid)
    logits = cells_to_pixels(torch.cat([1 - share, share], dim=1), grid)
    background_HW, foreground_HW = restore_logits(logits, placement)[0]
    return (foreground_HW > background_HW).numpy()


def hsnets_own_episodes(pascal: VocSource, fold: int, shot: int) -> list[list]:
    """HSNet's first 1,000 test episodes on the derived pairs, in plain numpy."""
    novel = range(5 * fold + 1, 5 * fold + 6)
    areas = pascal.class_areas("val")
    pairs = [(name, c) for name in sorted(areas) for c in novel if areas[name].get(c, 0) >= 2660]
    np.random.seed(0)
    episodes = []
    for index in range(1000):
        query, class_id = pairs[index % len(pairs)]
        images = [name for name, other in pairs if other == class_id]
        supports = []
        while len(supports) < shot:
            drawn = str(np.random.choice(images, 1, replace=False)[0])
            supports += [drawn] if drawn != query else []
        episodes.append([query, class_id, supports])
    return episodes


@pytest.mark.parametrize(
    ("fold", "one_shot", "five_shot"),
    [
        (0, "a43e6f30f7f29873", "ffaeb6fa6c72eea2"),
        (1, "5e4f5c8a6c733af9", "1388c2636d120ac7"),
        (2, "03fa86a669d54a1a", "9ab29ae878a574a4"),
        (3, "bd1a67d4632ea5c9", "6387d61033ef56b3"),
    ],
)
def test_hsnet_draws_its_thousand_pascal_episodes_in_one_fixed_sequence(
    pascal, fold, one_shot, five_shot
):
    split = build_split(pascal, "hsnet", fold, "val")
    for shot, expected in ((1, one_shot), (5, five_shot)):
        drawn = hsnet_test_episodes(split, shot=shot, num_episodes=1000, seed=0)
        rows = [[e.query, e.class_id, list(e.supports)] for e in drawn]
        assert rows == hsnets_own_episodes(pascal, fold, shot)
        text = json.dumps(rows, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == expected
        assert episode_list_hash(drawn) == expected


@pytest.fixture(scope="module")
def coco_root(real_data: Path) -> Path:
    return real_data / "coco-mini"


@pytest.fixture(scope="module", params=["exact", "field"])
def coco(request, coco_root, tmp_path_factory):
    return open_source("coco20i", coco_root, tmp_path_factory.mktemp("cache"), request.param)


@pytest.mark.parametrize(
    ("split", "expected"), [("train", [12, 11, 9, 10]), ("val", [7, 9, 11, 8])]
)
def test_coco_mini_has_the_known_usable_classes(coco_root, tmp_path, split, expected):
    source = open_source("coco20i", coco_root, tmp_path)
    large = [
        class_id
        for areas in source.class_areas(split).values()
        for class_id, pixels in areas.items()
        if pixels >= 2048
    ]
    counts = [sum(large.count(c) >= 2 for c in novel_classes(source, fold)) for fold in range(4)]
    assert counts == expected


def test_field_label_maps_explain_the_published_lists_of_coco(coco_root, tmp_path):
    source = open_source("coco20i", coco_root, tmp_path, "field")
    published = json.loads((coco_root / "field_pairs.json").read_text(encoding="utf-8"))
    expected = {(Path(name).stem, c + 1) for name, found in published.items() for c in found}
    areas = source.class_areas("train") | source.class_areas("val")
    large = {
        (Path(name).stem, class_id)
        for name in published
        for class_id, pixels in areas[Path(name).stem].items()
        if pixels >= 2048
    }
    assert (len(expected), large) == (396, expected)


def test_bam_on_coco_mini_can_draw_one_shot_episodes_in_every_fold(coco):
    for fold in range(4):
        for split in ("train", "val"):
            assert usable_classes(build_split(coco, "bam", fold, split), 1)


def test_hsnet_on_coco_mini_draws_the_class_then_the_query_then_the_supports(coco):
    split = build_split(coco, "hsnet", 0, "val")
    drawn = hsnet_test_episodes(split, shot=2, num_episodes=200, seed=0)
    class_ids = usable_classes(split, 2)
    np.random.seed(0)
    for episode in drawn:
        assert episode.class_id == np.random.choice(class_ids, 1, replace=False)[0]
        images = split.images_by_class[episode.class_id]
        assert episode.query == np.random.choice(images, 1, replace=False)[0]
        supports = []
        while len(supports) < 2:
            support = np.random.choice(images, 1, replace=False)[0]
            supports += [support] if support != episode.query else []
        assert list(episode.supports) == supports


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_photograph_of_coco_mini_fits_its_label_map(coco, split):
    for name in coco.names(split):
        assert coco.image(name).shape[:2] == coco.mask(name).shape


# pycocotools' own, under numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("split", ["train", "val"])
def test_exact_label_maps_cover_what_the_coco_api_draws(coco_root, tmp_path, split):
    source = open_source("coco20i", coco_root, tmp_path)
    api = COCO(coco_root / "annotations" / f"instances_{split}2014.json")
    class_ids = {category: k for k, category in enumerate(sorted(api.getCatIds()), start=1)}
    for image in api.loadImgs(api.getImgIds()):
        labels = source.mask(Path(image["file_name"]).stem)
        drawn = {}
        for entry in api.loadAnns(api.getAnnIds(image["id"])):
            mask = api.annToMask(entry).astype(bool)
            class_id = class_ids[entry["category_id"]]
            drawn[class_id] = drawn.get(class_id, False) | mask
        anything = np.zeros(labels.shape, bool)
        for class_id, mask in drawn.items():
            assert not (labels == class_id)[~mask].any()
            anything |= mask
        np.testing.assert_array_equal(labels > 0, anything)
