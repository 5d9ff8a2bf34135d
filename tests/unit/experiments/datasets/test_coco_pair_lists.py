"""HSNet's lists of COCO-20i: pickles of plain values, read in their order, refused by name."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from support.fewshot_trees import box, make_coco

from experiments.datasets.coco_annotations import read_annotations
from experiments.datasets.pair_lists import read_coco_pair_lists
from experiments.datasets.verify.findings import Findings
from experiments.fewshot.episodes.hsnet import hsnet_test_episodes
from experiments.fewshot.episodes.protocols import Split, build_split
from experiments.fewshot.episodes.source import interleaved_folds, open_source
from experiments.fewshot.verify.coco_lists import verify_coco_lists
from merge.errors import DataError

FOLDS = interleaved_folds(80)
FOLD = 2


def named(split: str, number: int) -> str:
    return f"{split}2014/COCO_{split}2014_{number:012d}.jpg"


def by_class(class_ids: tuple[int, ...], split: str) -> dict[int, list[str]]:
    """Images of each class, never in the order of their names."""
    rng = np.random.default_rng(5)
    return {c - 1: [named(split, n) for n in rng.permutation(50)[: 3 + c % 5]] for c in class_ids}


def write(folder: Path, split: str, content: object) -> Path:
    path = folder / split / f"fold{FOLD}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "splits" / "coco"


def test_pairs_are_sorted_by_class_and_keep_the_order_of_the_list(folder):
    lists = by_class(FOLDS[FOLD], "val")
    write(folder, "val", dict(reversed(lists.items())))
    pairs = read_coco_pair_lists(folder, "val", FOLD, FOLDS)
    expected = [(Path(name).stem, c + 1) for c in sorted(lists) for name in lists[c]]
    assert list(pairs) == expected
    assert pairs[0][0].startswith("COCO_val2014_")
    assert expected != sorted(expected, key=lambda pair: pair[::-1])


def test_a_fold_trains_on_its_own_file_of_the_other_folds_classes(folder):
    others = tuple(c for fold, classes in enumerate(FOLDS) if fold != FOLD for c in classes)
    write(folder, "trn", by_class(others, "train"))
    pairs = read_coco_pair_lists(folder, "train", FOLD, FOLDS)
    assert {class_id for _, class_id in pairs} == set(others)


def hsnets_own_episodes(lists: dict[int, list[str]], shot: int) -> list[list]:
    """HSNet's first 1,000 test episodes of COCO-20i, in plain numpy."""
    np.random.seed(0)
    episodes = []
    for _ in range(1000):
        sampled = np.random.choice(sorted(lists), 1, replace=False)[0]
        query = np.random.choice(lists[sampled], 1, replace=False)[0]
        supports = []
        while len(supports) < shot:
            support = np.random.choice(lists[sampled], 1, replace=False)[0]
            supports += [Path(support).stem] if support != query else []
        episodes.append([Path(query).stem, int(sampled) + 1, supports])
    return episodes


@pytest.mark.parametrize("shot", [1, 5])
def test_a_thousand_episodes_are_hsnets_own(folder, shot):
    lists = by_class(FOLDS[FOLD], "val")
    write(folder, "val", lists)
    pairs = read_coco_pair_lists(folder, "val", FOLD, FOLDS)
    split = Split(
        dataset="coco20i",
        protocol="hsnet",
        fold=FOLD,
        split="val",
        novel=FOLDS[FOLD],
        base=(),
        min_area_px=0,
        pair_list="file",
        pairs=pairs,
        classes_by_image={},
        images_by_class={c: tuple(n for n, k in pairs if k == c) for c in FOLDS[FOLD]},
    )
    drawn = hsnet_test_episodes(split, shot=shot, num_episodes=1000, seed=0)
    rows = [[e.query, e.class_id, list(e.supports)] for e in drawn]
    assert rows == hsnets_own_episodes(lists, shot)


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harmed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({2: [Harmful()]}, r"names \w+\.mkdir, and a list needs no code"),
        ({2: np.array(["a.jpg"])}, "needs no code"),
        ([named("val", 1)], "holds no images by class"),
        ({2: [17]}, "holds no images by class"),
        ({2: [""]}, "holds no images by class"),
        ({"2": [named("val", 1)]}, "holds no images by class"),
        ({2: [named("val", 1)]}, "no entry for class 6 of fold 2"),
    ],
)
def test_a_list_of_another_form_is_refused_and_runs_no_code(
    folder, tmp_path, monkeypatch, content, message
):
    monkeypatch.chdir(tmp_path)
    path = write(folder, "val", content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco_pair_lists(folder, "val", FOLD, FOLDS)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "harmed").exists()


def test_a_damaged_or_missing_pickle_is_refused_with_the_fix(folder):
    with pytest.raises(DataError, match=r"fold2\.pkl is missing: give all of HSNet's lists"):
        read_coco_pair_lists(folder, "val", FOLD, FOLDS)
    path = write(folder, "val", by_class(FOLDS[FOLD], "val"))
    whole = path.read_bytes()
    for end in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match="restore it from HSNet's repository"):
            read_coco_pair_lists(folder, "val", FOLD, FOLDS)


@pytest.mark.parametrize("place", ["splits/coco", "data/splits/coco", "COCO2014/splits/coco"])
def test_lists_beside_the_data_are_taken_as_they_are(tmp_path, place):
    root = make_coco(tmp_path / "root" / "COCO2014").parent
    fold = 3  # its classes are 4, 8, ..., 80; the one test image shows class 80
    lists = {c - 1: [named("val", 3)] if c == 80 else [] for c in FOLDS[fold]}
    path = root / place / "val" / f"fold{fold}.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(lists))
    source = open_source("coco20i", root, tmp_path / "cache", "field")
    split = build_split(source, "hsnet", fold, "val")
    assert (split.pair_list, split.pairs) == ("file", (("COCO_val2014_000000000003", 80),))
    lists[3] = [named("val", 3)]
    path.write_bytes(pickle.dumps(lists))
    exact = open_source("coco20i", root, tmp_path / "cache", "exact")
    with pytest.raises(DataError, match="set mask_variant=field"):
        build_split(exact, "hsnet", fold, "val")


def test_a_deep_verification_compares_the_lists_with_the_label_maps(tmp_path):
    root = make_coco(tmp_path / "COCO2014")
    images = {
        split: read_annotations(root / "annotations" / f"instances_{split}2014.json").images
        for split in ("train", "val")
    }

    def problems(*listed: int) -> list[str]:
        """Of lists without any image, but for class 2 of fold 1."""
        for fold, classes in enumerate(FOLDS):
            lists = {c - 1: [named("val", n) for n in listed if c == 2] for c in classes}
            others = {c - 1: [] for k, other in enumerate(FOLDS) if k != fold for c in other}
            for split, content in (("val", lists), ("trn", others)):
                path = root / "splits/coco" / split / f"fold{fold}.pkl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pickle.dumps(content))
        findings = Findings("coco20i", limit=10)
        verify_coco_lists(root / "splits/coco", images, findings)
        return [problem.message for problem in findings.kept]

    # No object of these images has 2,048 pixels.
    assert problems() == []
    (message,) = problems(3)
    assert "fold 1 lists 1 (COCO_val2014_000000000003__02) pairs" in message
    enlarge(root / "annotations" / "instances_val2014.json")
    images["val"] = read_annotations(root / "annotations" / "instances_val2014.json").images
    (message,) = problems()
    assert "fold 3 lacks 1 (COCO_val2014_000000000003__80) pairs" in message


def enlarge(path: Path) -> None:
    """Make each object of an annotation file as large as its image."""
    record = json.loads(path.read_text())
    for entry in record["annotations"]:
        entry["segmentation"] = [box(0, 0, 59, 39)]
    path.write_text(json.dumps(record))
