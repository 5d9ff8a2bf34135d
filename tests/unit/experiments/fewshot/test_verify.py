"""Checking a copy of a data set: whole copies pass, every damage is named with its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.fewshot_trees import (
    PASCAL_SBD,
    PASCAL_TRAIN,
    files_below,
    make_coco,
    make_pascal,
    save_label_map,
    save_photograph,
)

from experiments.datasets.prepare.manifest import OFFICIAL
from experiments.fewshot.verify.__main__ import main

MAKERS = {"pascal5i": make_pascal, "coco20i": make_coco}
LISTS = "ImageSets/Segmentation"


@pytest.fixture
def verify(tmp_path, capsys):
    """Checks `tmp_path/data`, with the counts of the small copies; exit code and output."""
    document = yaml.safe_load(OFFICIAL.read_text())
    document["pascal5i"]["counts"] = {"photographs": 4, "label_maps": 4, "train": 1, "val": 1}
    document["coco20i"]["counts"] = {"photographs_train": 2, "photographs_val": 1}
    manifest = tmp_path / "counts.yaml"
    manifest.write_text(yaml.safe_dump(document))

    def run(dataset: str, *words: object) -> tuple[int, str]:
        named = ("--datasets", dataset, "--data-root", tmp_path / "data", "--manifest", manifest)
        return main([str(word) for word in (*named, *words)]), capsys.readouterr().out

    return run


@pytest.mark.parametrize("dataset", MAKERS)
@pytest.mark.parametrize("deep", [(), ("--deep",)])
def test_a_whole_copy_has_no_problem_and_is_only_read(verify, tmp_path, dataset, deep):
    root = MAKERS[dataset](tmp_path / "data")
    before = files_below(root)
    code, shown = verify(dataset, "--json", *deep)
    (entry,) = json.loads(shown)["datasets"]
    assert (code, entry["exit_code"], entry["problems"]) == (0, 0, [])
    assert entry["checked"]
    assert files_below(root) == before


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def unlist(path: Path) -> None:
    path.write_text("")


def recolour(path: Path) -> None:
    save_label_map(path, np.full((64, 96), 21))


def shrink(path: Path) -> None:
    path.unlink()
    save_photograph(path, 30, 40)


def in_colours(path: Path) -> None:
    Image.new("RGB", (96, 64)).save(path)


PHOTOGRAPH = f"JPEGImages/{PASCAL_SBD}.jpg"
MASK = f"SegmentationClassAug/{PASCAL_TRAIN}.png"
DAMAGE = {
    "photograph gone": ("pascal5i", PHOTOGRAPH, Path.unlink, (), 3, "photograph"),
    "label map gone": ("pascal5i", MASK, Path.unlink, (), 3, "label map"),
    "list gone": ("pascal5i", f"{LISTS}/val.txt", Path.unlink, (), 3, "list"),
    "SBD's list gone": ("pascal5i", f"{LISTS}/train_noval.txt", Path.unlink, (), 3, "list"),
    "photograph is none": ("pascal5i", PHOTOGRAPH, unlist, (), 1, "photograph"),
    "photograph cut off": ("pascal5i", PHOTOGRAPH, truncate, ("--deep",), 1, "photograph"),
    "photograph of another size": ("pascal5i", PHOTOGRAPH, shrink, (), 1, "size"),
    "label map cut off": ("pascal5i", MASK, truncate, (), 1, "label map"),
    "label map with class 21": ("pascal5i", MASK, recolour, (), 1, "label map"),
    "label map in colours": ("pascal5i", MASK, in_colours, (), 1, "label map"),
    "COCO photograph gone": (
        *("coco20i", "train2014/COCO_train2014_000000000001.jpg", Path.unlink, (), 3),
        "photograph",
    ),
    "COCO photograph of another size": (
        *("coco20i", "val2014/COCO_val2014_000000000003.jpg", shrink, (), 1),
        "size",
    ),
    "annotations cut off": (
        *("coco20i", "annotations/instances_val2014.json", truncate, (), 1),
        "annotations",
    ),
    "annotations gone": (
        *("coco20i", "annotations/instances_val2014.json", Path.unlink, (), 3),
        "layout",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_with_its_file_and_its_kind(verify, tmp_path, name):
    dataset, file, damage, words, exit_code, kind = DAMAGE[name]
    damage(MAKERS[dataset](tmp_path / "data") / file)
    code, shown = verify(dataset, *words)
    assert code == exit_code, shown
    lines = [line for line in shown.splitlines() if f" {kind}: " in line]
    assert lines
    assert any(Path(file).stem in line for line in lines)
    assert "replicate prepare" in shown


def test_a_count_that_is_not_the_published_one_is_a_problem_and_the_list_is_limited(
    verify, tmp_path
):
    root = make_pascal(tmp_path / "data")
    for path in (root / "JPEGImages").iterdir():
        path.unlink()
    code, shown = verify("pascal5i", "--limit", 2, "--json")
    (entry,) = json.loads(shown)["datasets"]
    assert code == 3
    assert entry["problems_by_kind"] == {"count": 1, "photograph": 4}
    assert [problem["kind"] for problem in entry["problems"]] == ["count", *["photograph"] * 2]
