"""What is said before a sweep starts, and of a copy of the data set."""

from __future__ import annotations

import json
import shutil

from PIL import Image

from experiments.camouflage import prepare, verify
from experiments.camouflage.check import problems
from experiments.runtime.check import Places


def found(tiny, *configs, data_root=None, weights=None):
    configs = [{"global_batch": 8, **config} for config in configs]
    places = Places(data_root=data_root, weights=weights, cache_dir=tiny.parent)
    return {each.about: each.message for each in problems(configs, places)}


def test_runs_that_have_all_have_no_problem(tiny):
    ready = {"dataset": "tiny_cod10k", "backbone": "efficientnet_lite0"}
    assert found(tiny, ready, {**ready, "dataset": "cod10k"}, data_root=tiny) == {}


def test_missing_data_and_weights_and_wrong_options_are_all_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    lacks = found(tiny, {"top_k": 8}, data_root=tmp_path)
    assert lacks.keys() == {"edgenext_base", "cod10k", "top_k"}
    assert "timm.create_model('edgenext_base', pretrained=True)" in lacks["edgenext_base"]
    assert "get COD10K-v3.zip" in lacks["cod10k"]
    assert "lower top_k" in lacks["top_k"]
    scratch = {"dataset": "tiny_cod10k", "from_scratch": True}
    assert found(tiny, scratch, weights=tmp_path).keys() == {"weights"}
    too_many = {"dataset": "tiny_cod10k", "from_scratch": True, "validation": 48}
    assert "leaves 0 to train" in found(tiny, too_many)["tiny_cod10k"]
    none = {"dataset": "tiny_cod10k", "from_scratch": True, "validation": 0}
    assert "set a share such as 0.1" in found(tiny, none)["options"]
    large = {**scratch, "images_per_epoch": 40, "global_batch": 64}
    assert "an epoch has 40 items, fewer than global_batch=64" in found(tiny, large)["tiny_cod10k"]
    short = {"dataset": "tiny_cod10k", "from_scratch": True, "epochs": 10}
    assert "decoder_epochs=30 is more than epochs=10" in found(tiny, short)["epochs"]


def test_a_copy_is_verified_with_its_counts(tiny, tmp_path, capsys):
    root = tmp_path / "COD10K-v3"
    shutil.copytree(tiny, root)
    words = ["--datasets", "cod10k", "--data-root", str(tmp_path)]
    assert verify.main(words) == 3
    assert "test images: 19, the published data set has 2,026" in capsys.readouterr().out
    assert verify.main([*words, "--any-count", "--deep"]) == 0
    assert "no problem" in capsys.readouterr().out
    masks = sorted((root / "Test" / "GT_Object").glob("*-CAM-*"))
    with Image.open(masks[0]) as mask:
        size = mask.size
    Image.new("L", size).save(masks[0])
    masks[1].write_bytes(b"")
    assert verify.main([*words, "--any-count", "--deep", "--json"]) == 1
    (document,) = json.loads(capsys.readouterr().out)["datasets"]
    assert str(root) in document["place"]
    assert document["problems_by_kind"] == {"empty mask": 1, "file": 1}
    masks[2].unlink()
    assert verify.main([*words, "--any-count"]) == 3
    assert "lacks the masks of 1" in capsys.readouterr().out
    assert verify.main([*words[:2], "--data-root", str(tmp_path / "nowhere")]) == 3
    shown = capsys.readouterr().out
    assert "is no folder" in shown
    assert shown.count("get COD10K-v3.zip by the link") == 1


def test_preparing_finds_the_data_set_or_says_how_to_get_it(tiny, tmp_path, capsys):
    words = ["--cache-dir", str(tiny.parent), "--datasets"]
    assert prepare.main([*words, "tiny_cod10k"]) == 0
    assert "48 training, 19 test images" in capsys.readouterr().out
    assert prepare.main([*words, "cod10k", "--data-root", str(tmp_path)]) != 0
    assert "cannot be downloaded by a script" in capsys.readouterr().err
