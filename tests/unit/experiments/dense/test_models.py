"""Models of the dense tasks: torchvision's names of weights, what trains, losses at the edges."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import detection, segmentation

from experiments.dense.models.classification import build_classifier
from experiments.dense.models.detection import build_detection
from experiments.dense.models.network import head_parts
from experiments.dense.models.segmentation import build_segmentation
from experiments.dense.options import Options
from experiments.dense.tasks.segmentation import pixel_loss
from experiments.runtime.options import build

SCRATCH = {"from_scratch": True}


def options_of(**values) -> Options:
    return build(Options, {**SCRATCH, **values}, "dense")


def built(options: Options) -> nn.Module:
    if options.task == "detection":
        return build_detection(options, 91, None)
    if options.task == "segmentation":
        return build_segmentation(options.network, 21, None)
    return build_classifier(options.network, 1000, None)


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of all that a weight file holds; frozen batch norm has no counter."""
    named = net.state_dict().items()
    return {n: tuple(v.shape) for n, v in named if not n.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("module", "name", "values"),
    [
        (segmentation, "fcn_resnet50", {"model": "fcn", "backbone": "resnet50"}),
        (segmentation, "deeplabv3_resnet101", {"model": "deeplabv3", "backbone": "resnet101"}),
        (
            segmentation,
            "deeplabv3_mobilenet_v3_large",
            {"model": "deeplabv3", "backbone": "mobilenet_v3_large"},
        ),
        (
            segmentation,
            "lraspp_mobilenet_v3_large",
            {"model": "lraspp", "backbone": "mobilenet_v3_large"},
        ),
        (
            detection,
            "fasterrcnn_resnet50_fpn",
            {"task": "detection", "model": "faster_rcnn", "backbone": "resnet50"},
        ),
        (
            detection,
            "retinanet_resnet50_fpn",
            {"task": "detection", "model": "retinanet", "backbone": "resnet50"},
        ),
        (
            models,
            "resnet50",
            {"task": "classification", "model": "classifier", "backbone": "resnet50"},
        ),
    ],
)
def test_a_model_has_the_names_and_shapes_of_torchvisions_weight_file(module, name, values):
    words = {} if module is models else {"weights_backbone": None}
    if module is segmentation and "lraspp" not in name:
        words["aux_loss"] = True
    # Without storage: only names and shapes are compared.
    with torch.device("meta"):
        theirs = getattr(module, name)(weights=None, **words)
        ours = built(options_of(**values))
    assert shapes(ours.net) == shapes(theirs)
    parts = head_parts(options_of(**values).network)
    for part in parts:
        assert list(ours.get_submodule(part).parameters())
    backbone = ours.backbone_state()
    assert backbone
    assert not any(key.startswith(parts) for key in backbone)


@pytest.mark.parametrize("model", ["faster_rcnn", "retinanet"])
def test_images_without_a_box_and_of_other_sizes_have_finite_losses_for_all_weights(model):
    torch.manual_seed(0)
    options = options_of(
        task="detection", model=model, backbone="tiny", short_side=48, num_proposals=20
    )
    detector = build_detection(options, 4, None)
    images = [torch.zeros(3, 40, 60, dtype=torch.uint8), torch.zeros(3, 50, 30, dtype=torch.uint8)]
    some = {"boxes": torch.tensor([[5.0, 5.0, 30.0, 30.0]]), "labels": torch.tensor([2])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    for targets in ([some, none], [none, none]):
        detector.zero_grad()
        losses = detector(images, targets)
        sum(losses.values()).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
        # A weight without a gradient would make DDP wait for it.
        assert [n for n, p in detector.named_parameters() if p.grad is None] == []
    found = detector.eval()(images)
    assert all(len(each["boxes"]) <= 100 for each in found)


@pytest.mark.parametrize("model", ["faster_rcnn", "retinanet"])
def test_boxes_are_computed_in_full_precision_under_mixed_precision(model):
    """In bfloat16 a corner at pixel 700 would be a multiple of 4."""
    torch.manual_seed(0)
    options = options_of(
        task="detection", model=model, backbone="tiny", short_side=48, num_proposals=20
    )
    detector = build_detection(options, 4, None).eval()
    detector.net.score_thresh = 0.0
    image = torch.randint(0, 256, (3, 600, 800), dtype=torch.uint8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (found,) = detector([image])
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    far = found["boxes"][found["boxes"] > 520]
    assert len(far) > 5
    assert (far % 4 != 0).any()


def test_published_detectors_have_no_epsilon_in_batch_norm(monkeypatch):
    monkeypatch.setattr("experiments.dense.models.detection.load_model", lambda *_: "file")
    with torch.device("meta"):
        options = build(
            Options,
            {
                "task": "detection",
                "model": "faster_rcnn",
                "backbone": "resnet50",
                "weights_of": "model",
            },
            "dense",
        )
        detector = build_detection(options, 91, None)
    norms = [m for m in detector.modules() if type(m).__name__ == "FrozenBatchNorm2d"]
    assert len(norms) == 53
    assert {norm.eps for norm in norms} == {0.0}
    assert detector.weights_id == "file"


def test_pixels_that_are_all_ignored_give_a_loss_of_0_with_a_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.full((2, 4, 4), 255, dtype=torch.uint8)
    loss = pixel_loss(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(logits.grad) == 0
    labels[0, 0, 0] = 1
    alone = nn.functional.cross_entropy(logits[:1, :, 0, 0], torch.tensor([1]))
    assert pixel_loss(logits, labels).item() == pytest.approx(alone.item())
