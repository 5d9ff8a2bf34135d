"""What few-shot runs lack is found before any of them starts."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import torch
from support.fewshot_trees import add_voc_image, make_coco, make_pascal, stripes, write_list
from torchvision.models import get_model_weights

from experiments.backbones.weight_files import (
    KNOWN_MODELS,
    WeightSource,
    hub_folder,
    model_source,
    weight_source,
)
from experiments.fewshot.check import problems
from experiments.runtime.check import Places, Problem


def found(
    tmp_path: Path, *configs: dict[str, object], weights: Path | None = None
) -> list[Problem]:
    places = Places(data_root=tmp_path / "data", weights=weights, cache_dir=tmp_path / "cache")
    return list(problems([{"from_scratch": weights is None, **each} for each in configs], places))


def make_one_good_fold(root: Path) -> None:
    """PASCAL-5i whose fold 0 can be trained (on class 7) and tested (on class 3), no other."""
    for split, class_id in (("train", 7), ("val", 3)):
        names = [f"2007_00{class_id}{number:03}" for number in range(3)]
        for name in names:
            add_voc_image(root, name, stripes({class_id: 3000}))
        write_list(root / "ImageSets/Segmentation" / f"{split}.txt", names)
    write_list(root / "ImageSets/Segmentation/train_noval.txt", ["2007_007000"])


def test_a_fold_without_an_image_is_found_beside_one_that_can_be_trained(tmp_path):
    make_one_good_fold(tmp_path / "data")
    (problem,) = found(tmp_path, *({"dataset": "pascal5i", "fold": fold} for fold in (0, 1)))
    assert problem.about == "pascal5i fold 1, 1 shot"
    assert "keeps no train image of pascal5i fold 1" in problem.message


def test_runs_that_are_tested_on_the_same_episodes_are_looked_at_once(tmp_path):
    make_pascal(tmp_path / "data")
    rates = ({"dataset": "pascal5i", "fold": 1, "lr": lr} for lr in (0.1, 0.2))
    assert len(found(tmp_path, *rates)) == 1


def test_a_photograph_of_coco_that_is_missing_is_found_without_a_run(tmp_path):
    root = make_coco(tmp_path / "data" / "COCO2014")
    (root / "train2014" / "COCO_train2014_000000000002.jpg").unlink()
    (problem,) = found(tmp_path, {"dataset": "coco20i", "fold": 0}, {"dataset": "coco20i"})
    assert problem.about == "coco20i"
    assert "COCO_train2014_000000000002" in problem.message
    assert "replicate prepare --datasets coco20i" in problem.fix


def test_generated_data_lacks_nothing_and_is_not_made(tmp_path):
    assert found(tmp_path, {"dataset": "shapes5i"}) == []
    assert not (tmp_path / "cache").exists()


def test_weights_are_looked_for_once_a_backbone_and_held_against_their_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    good = b"weights"
    named = f"net-{hashlib.sha256(good).hexdigest()[:8]}.pth"
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "resnet50-0676ba61.pth").write_bytes(b"cut off")
    runs = [{"backbone": name, "fold": f} for name in ("resnet50", "resnet18") for f in (0, 1)]
    small, damaged = found(tmp_path, *runs, weights=folder)
    assert (small.about, damaged.about) == ("resnet18", "resnet50")
    assert "resnet18-f37072fd.pth is in none of" in small.message
    assert "is damaged or mislabelled" in damaged.message
    (folder / named).write_bytes(good)
    assert found(tmp_path, *runs[:2], weights=folder / named) == []


def test_the_files_and_the_folder_are_those_of_torchvision_and_torch_hub():
    backbones = ("resnet18", "resnet50", "resnet101")
    urls = [next(iter(get_model_weights(name))).url for name in (*backbones, *KNOWN_MODELS)]
    assert Path(torch.hub.get_dir()) / "checkpoints" == hub_folder()
    ours: list[WeightSource] = [weight_source(name) for name in backbones]
    ours += [model_source(name) for name in KNOWN_MODELS]
    assert [source.origin for source in ours] == [f"download {url}" for url in urls]
    assert [source.file_name for source in ours] == [url.rpartition("/")[2] for url in urls]


def test_the_check_imports_no_torch():
    code = "import sys, experiments.fewshot.check; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_quick_check_indexes_nothing_and_finds_the_rest(tmp_path):
    make_one_good_fold(tmp_path / "data")
    places = Places(
        data_root=tmp_path / "data", weights=None, cache_dir=tmp_path / "cache", is_quick=True
    )
    folds = [{"dataset": "pascal5i", "fold": fold, "from_scratch": True} for fold in (0, 1)]
    absent = {"dataset": "coco20i", "fold": 0, "from_scratch": True}
    (coco,) = problems([*folds, absent], places)
    assert coco.about == "coco20i"
    assert not (tmp_path / "cache").exists()
    # Once a run has made the index, it is used.
    assert found(tmp_path, *folds)
    assert [each.about for each in problems(folds, places)] == ["pascal5i fold 1, 1 shot"]
