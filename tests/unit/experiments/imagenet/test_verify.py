"""What `replicate data verify --datasets imagenet` finds in copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from experiments.imagenet.verify.__main__ import main


def copy_with(root: Path, files: dict[str, int]) -> Path:
    for folder, number in files.items():
        (root / folder).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (40, 30), (index, 90, 90)).save(root / folder / f"{index}.JPEG")
    return root


@pytest.fixture
def subset(tmp_path):
    root = copy_with(tmp_path / "data", {"train/a": 3, "train/b": 2, "val/a": 1, "val/b": 1})
    manifest = tmp_path / "counts.yaml"
    manifest.write_text("imagenet: {classes: 2, train_images: 5, val_images: 2}\n")
    return root, manifest


def verify(capsys, root: Path, *words: object) -> tuple[int, dict]:
    command = ["--datasets", "imagenet", "--data-root", str(root), "--json", *map(str, words)]
    code = main(command)
    return code, json.loads(capsys.readouterr().out)["datasets"][0]


def test_a_whole_subset_has_no_problem_and_all_of_imagenet_other_numbers(capsys, subset):
    root, manifest = subset
    assert verify(capsys, root, "--deep", "--manifest", manifest)[0] == 0
    code, found = verify(capsys, root)
    assert code == 3
    messages = [problem["message"] for problem in found["problems"]]
    assert messages == [
        "train_images: 5, the published data set has 1,281,167",
        "classes of train: 2, the published data set has 1,000",
        "val_images: 2, the published data set has 50,000",
        "classes of val: 2, the published data set has 1,000",
    ]


def test_broken_files_are_found_and_deep_ones_only_with_deep(capsys, subset):
    root, manifest = subset
    (root / "train" / "a" / "0.JPEG").write_bytes(b"")
    whole = (root / "train" / "b" / "1.JPEG").read_bytes()
    (root / "train" / "b" / "1.JPEG").write_bytes(whole[:-60])
    code, found = verify(capsys, root, "--manifest", manifest)
    assert (code, found["problems_by_kind"]) == (1, {"empty file": 1})
    code, found = verify(capsys, root, "--manifest", manifest, "--deep")
    assert (code, found["problems_by_kind"]) == (1, {"empty file": 1, "image": 1})
    assert "b/1.JPEG cannot be read" in found["problems"][1]["message"]


def test_what_is_absent_is_missing_and_other_classes_are_wrong(capsys, subset, tmp_path):
    root, manifest = subset
    copy_with(root, {"val/c": 1})
    code, found = verify(capsys, root, "--manifest", manifest)
    assert code == 1
    assert any(problem["message"].startswith("c is in ") for problem in found["problems"])
    train_only = copy_with(tmp_path / "half", {"train/a": 5, "train/b": 1})
    code, found = verify(capsys, train_only)
    assert found["problems"][0]["kind"] == "val"
    assert code == 3


@pytest.mark.parametrize("text", ["[]", "imagenet: {cats: 2}", "imagenet: {classes: x}", "{"])
def test_a_manifest_that_is_none_is_refused(capsys, tmp_path, subset, text):
    (tmp_path / "wrong.yaml").write_text(text)
    words = ["--datasets", "imagenet", "--data-root", str(subset[0])]
    assert main([*words, "--manifest", str(tmp_path / "wrong.yaml")]) == 2
    assert "wrong.yaml" in capsys.readouterr().err
