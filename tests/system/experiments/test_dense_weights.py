"""Published weights: torchvision's files are loaded strictly and tested with one command."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from support.commands import replicate
from torchvision.models import resnet18
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from experiments.datasets.shape_layouts import ensure_shapes3
from experiments.dense.models.classification import build_classifier
from experiments.dense.models.detection import build_detection
from experiments.dense.options import Options
from experiments.runtime.options import build
from merge.errors import DataError
from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def saved(net: torch.nn.Module, folder: Path, stem: str) -> Path:
    """A file as torchvision names them: with the first 8 digits of its sha256."""
    path = folder / "file.pth"
    torch.save(net.state_dict(), path)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(folder / f"{stem}-{digits}.pth")


def test_published_weights_are_tested_with_one_command(tmp_path):
    """LR-ASPP is the smallest of the published models; the data are a COCO 2017 of 31 images."""
    torch.manual_seed(0)
    net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    weights = saved(net, tmp_path, "lraspp_mobilenet_v3_large")
    root = ensure_shapes3(tmp_path)
    words = (
        *("--study", "dense_segmentation_weights", "--where", "model=lraspp"),
        *("--backbones", "mobilenet_v3_large", "--data-root", root),
        *("--weights", weights, "--set", "short_side=65", "--devices", "cpu:1"),
    )
    done = replicate(*words, cwd=tmp_path, timeout_s=250)
    assert done.returncode == 0, done.stderr
    assert "57.9" in done.stdout  # as torchvision publishes it
    output = tmp_path / "outputs" / "dense_segmentation_weights"
    details = read_json(output / "lraspp_mobilenet_v3_large_full" / "result.json")["details"]
    assert details["weights"].startswith(weights.name)
    assert details["test_images"] == 31
    damaged = weights.with_name("lraspp_mobilenet_v3_large-00000000.pth")
    weights.rename(damaged)
    refused = replicate(
        *(damaged if word == weights else word for word in words),
        *("--output-dir", tmp_path / "other"),
        cwd=tmp_path,
    )
    assert refused.returncode != 0
    assert "damaged or mislabelled" in refused.stderr


def test_a_detector_with_a_weight_file_finds_what_torchvisions_finds(tmp_path):
    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=96, max_size=160
    ).eval()
    weights = saved(theirs, tmp_path, "fasterrcnn_resnet50_fpn_coco")
    values = {"task": "detection", "model": "faster_rcnn", "backbone": "resnet50"}
    small = {"short_side": 96, "long_side": 160, "weights_of": "model"}
    ours = build_detection(build(Options, {**values, **small}, "dense"), 91, weights).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0  # as torchvision does for its first COCO weights
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    with torch.inference_mode():
        (expected,), (found,) = theirs([image / 255]), ours([image])
    assert len(found["boxes"]) == len(expected["boxes"]) > 0
    torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=1e-3, atol=1e-4)


def test_a_classifier_loads_its_file_strictly(tmp_path):
    torch.manual_seed(0)
    theirs = resnet18(weights=None).eval()
    weights = saved(theirs, tmp_path, "resnet18")
    network = {"task": "classification", "model": "classifier", "backbone": "resnet18"}
    options = build(Options, {**network, "weights_of": "model"}, "dense")
    ours = build_classifier(options.network, 1000, weights).eval()
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = theirs((image / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        torch.testing.assert_close(ours(image), expected)
    state = theirs.state_dict()
    del state["fc.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(DataError, match=r"1 missing \(fc.bias\)"):
        build_classifier(options.network, 1000, tmp_path / "part.pth")
