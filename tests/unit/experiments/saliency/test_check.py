"""What runs lack is found before any of them starts."""

from __future__ import annotations

import pytest
from support.mit1003 import small_copy

from experiments.runtime.check import Places
from experiments.saliency.check import problems


def found(tmp_path, *, data_root=None, weights=None, is_quick=False, **config):
    places = Places(
        data_root=data_root, weights=weights, cache_dir=tmp_path / "cache", is_quick=is_quick
    )
    return list(problems([{"global_batch": 1, **config}], places))


def test_generated_images_and_packaged_weights_lack_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.saliency.beacons.NUM_IMAGES", 3)
    assert found(tmp_path, dataset="beacons", backbone="efficientnet_lite0") == []


def test_a_data_set_is_opened_as_a_run_opens_it(tmp_path):
    (problem,) = found(tmp_path)
    assert problem.message == "mit1003 needs a data root: name its folder with --data-root DIR"
    root = small_copy(tmp_path / "data", 2)
    assert found(tmp_path, data_root=root) == []
    (root / "ALLSTIMULI" / "beacons_0000.jpeg").write_bytes(b"no image")
    (problem,) = found(tmp_path, data_root=root)
    assert "cannot be decoded" in problem.message
    assert f"--data-root {root} --download" in problem.fix


def test_a_split_that_leaves_nothing_is_found_before_the_first_run(tmp_path):
    root = small_copy(tmp_path / "data", 4)
    (problem,) = found(tmp_path, data_root=root, validation=0.1)
    assert problem.about == "split"
    assert "leaves 3 to train and 0 to validate: choose another" in problem.message
    (problem,) = found(tmp_path, data_root=root, split="folds", fold=9)
    assert "with split=folds a list of the 4 images is empty" in problem.message
    (problem,) = found(tmp_path, dataset="beacons", global_batch=91)
    assert "an epoch has 90 items, fewer than global_batch=91" in problem.message
    (problem,) = found(tmp_path, dataset="beacons", validation=0.001)
    assert "leaves 90 to train and 0 to validate" in problem.message


def test_a_quick_check_indexes_nothing(tmp_path):
    root = small_copy(tmp_path / "data", 2)
    assert found(tmp_path, data_root=root, is_quick=True) == []
    assert not list((tmp_path / "cache").rglob("*.npz"))


def test_an_hdf5_file_that_is_missing_is_asked_for(tmp_path):
    root = small_copy(tmp_path / "data", 2)
    (problem,) = found(tmp_path, data_root=root, storage="hdf5")
    assert "`replicate data mit1003-hdf5" in problem.message


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet18", "resnet18-f37072fd.pth is in none of"),
        ("vit_tiny", "name a file of its weights"),
    ],
)
def test_weights_that_are_missing_are_asked_for(tmp_path, monkeypatch, backbone, message):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (problem,) = found(tmp_path, dataset="beacons", backbone=backbone)
    assert (problem.about, message in problem.message) == (backbone, True)
