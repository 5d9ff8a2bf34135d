"""What is found to be missing before any run of the dense tasks starts."""

from __future__ import annotations

import json
import shutil

import pytest

from experiments.datasets.shape_layouts import ensure_shapes3
from experiments.dense.check import problems
from experiments.dense.verify.__main__ import main as verify
from experiments.runtime.check import Places

SCRATCH = {"backbone": "tiny", "from_scratch": True}


@pytest.fixture
def found(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-weights"))

    def ask(*configs, **places):
        given = {"data_root": None, "weights": None, "cache_dir": cache, **places}
        return [f"{each.about}: {each.message}" for each in problems(configs, Places(**given))]

    return ask


def test_runs_that_need_nothing_have_no_problem(found):
    detection = {"task": "detection", "model": "retinanet", "dataset": "shapes3_coco"}
    classification = {"task": "classification", "model": "classifier", "dataset": "shapes5"}
    assert found(SCRATCH, {**SCRATCH, **detection}, {**SCRATCH, **classification}) == []


def test_each_weight_file_is_named_once_with_its_address(found):
    pretrained = {"backbone": "resnet50"}
    again = {**pretrained, "variant": "frozen_backbone"}
    whole = {**pretrained, "weights_of": "model", "model": "deeplabv3", "epochs": 0}
    first, second = found(pretrained, again, whole)
    assert "resnet50-0676ba61.pth" in first
    assert "from random weights" in first
    assert "deeplabv3_resnet50_coco-cd0a2569.pth" in second
    assert "https://" in second


def test_a_model_that_torchvision_does_not_publish_is_refused(found):
    (problem,) = found({"model": "fcn", "backbone": "resnet18", "weights_of": "model"})
    assert "fcn_resnet18" in problem


def test_options_that_do_not_go_together_are_one_problem(found):
    (problem,) = found({"model": "retinanet"})
    assert "model retinanet is none of task segmentation" in problem


def test_photographs_that_are_annotated_but_absent_are_counted(found, cache, tmp_path):
    root = tmp_path / "COCO2017"
    shutil.copytree(ensure_shapes3(cache) / "COCO2017", root)
    (root / "val2017" / "val_003.jpg").unlink()
    (root / "val2017" / "val_004.jpg").unlink()
    config = {**SCRATCH, "task": "detection", "model": "faster_rcnn", "dataset": "coco2017"}
    (problem,) = found(config, data_root=tmp_path)
    assert "2 (val_003.jpg, val_004.jpg)" in problem
    assert found(config, data_root=tmp_path, is_quick=True) == []
    words = ["--datasets", "coco2017", "--data-root", str(tmp_path)]
    assert verify(words) == 3
    with pytest.raises(SystemExit):  # counts of its own are for few-shot data and ImageNet
        verify([*words, "--manifest", "counts.yaml"])


def test_a_data_set_that_is_not_there_is_one_problem(tmp_path, capsys):
    assert verify(["--datasets", "coco2017", "--data-root", str(tmp_path)]) == 3
    assert "coco2017: 1 problem\n" in capsys.readouterr().out


def test_categories_that_are_not_cocos_do_not_fit_the_published_detector(found, cache, tmp_path):
    root = tmp_path / "COCO2017"
    shutil.copytree(ensure_shapes3(cache) / "COCO2017", root)
    path = root / "annotations" / "instances_val2017.json"
    record = json.loads(path.read_text())
    record["categories"][0]["name"] = "kite"
    path.write_text(json.dumps(record))
    config = {
        "task": "detection",
        "model": "faster_rcnn",
        "backbone": "resnet50",
        "dataset": "coco2017",
        "weights_of": "model",
        "epochs": 0,
    }
    problems_found = found(config, data_root=tmp_path)
    assert any("output 2 of the published model is 'bicycle'" in each for each in problems_found)
    classes = {**config, "task": "classification", "model": "classifier", "dataset": "shapes5"}
    assert any("has 1000 classes, shapes5 has 5" in each for each in found(classes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 77}, "category 77"),
        ({"image_id": 9999}, "image 9999"),
        ({"bbox": [0, 0, 1e9, 4]}, "outside of its"),
        ({"segmentation": [[1, 2, 3]]}, "no pairs"),
    ],
)
def test_a_wrong_annotation_is_named(found, cache, tmp_path, change, message):
    root = tmp_path / "COCO2017"
    shutil.copytree(ensure_shapes3(cache) / "COCO2017" / "annotations", root / "annotations")
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir()
    path = root / "annotations" / "instances_train2017.json"
    record = json.loads(path.read_text())
    record["annotations"][5] |= change
    path.write_text(json.dumps(record))
    config = {**SCRATCH, "dataset": "coco2017", "min_area_px": 0}
    (problem,) = found(config, data_root=tmp_path)
    assert str(path) in problem
    assert message in problem


def test_a_wrong_annotation_of_voc_is_named(found, cache, tmp_path):
    root = tmp_path / "VOC2012"
    shutil.copytree(ensure_shapes3(cache) / "VOC2012", root)
    path = root / "Annotations" / "train_007.xml"
    config = {**SCRATCH, "task": "detection", "model": "faster_rcnn", "dataset": "voc2012"}
    text = path.read_text()
    path.write_text(text.replace("<name>", "<name>x", 1))
    (problem,) = found(config, data_root=tmp_path)
    assert str(path) in problem
    assert "which VOC does not have" in problem
    path.write_text(text[:-30])
    (problem,) = found(config, data_root=tmp_path)
    assert "cannot be read" in problem
    path.write_text(text)
    assert found(config, data_root=tmp_path) == []
