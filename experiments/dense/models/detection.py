"""Faster R-CNN and RetinaNet on feature pyramids, under torchvision's names of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from experiments.backbones.weights import RANDOM_WEIGHTS_ID
from experiments.dense.models.features import Levels, colour_range, shared_levels, tiny_levels
from experiments.dense.models.network import DenseModel, load_backbone, load_model
from experiments.dense.options import Options
from experiments.runtime.batches import apply_to_tensors
from experiments.runtime.finite import require_finite

Targets = list[dict[str, Tensor]]

_RATIOS = (0.5, 1.0, 2.0)
_RESNET_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_ROI_SIZE = 7
_SMALLEST_ANCHOR_PX = 32
_CHANNELS = 256
_BOX_HEADS = {"faster_rcnn": ("rpn.head", "roi_heads.box_predictor"), "retinanet": ("head",)}
_NUM_GROUPS = 8


class Detector(DenseModel):
    """A detector; each image has its own size, and the network resizes and normalises it."""

    def forward(  # type: ignore[override]
        self, images: list[Tensor], targets: Targets | None = None
    ) -> Any:  # noqa: ANN401
        """Losses by name in training; else boxes, scores and labels of each image."""
        return self.net([image / 255 for image in images], targets)


@dataclass(frozen=True, slots=True)
class _Pyramid:
    """A backbone with feature maps, and their strides in pixels, the extra ones included."""

    backbone: nn.Module
    channels: int
    weights_id: str
    strides: tuple[int, ...]
    num_pooled: int
    """Maps that boxes are pooled from: all but the extra ones."""
    width: int
    """Channels of the hidden layers of Faster R-CNN's head."""


class FeaturePyramid(nn.Module):
    """Levels with torchvision's feature pyramid on them, in the form that its detectors take."""

    def __init__(self, body: Levels, channels: int, extra: ExtraFPNBlock | None) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(list(body.out_channels.values()), channels, extra)
        self.out_channels = channels

    def forward(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Maps of `channels` channels, by name from fine to coarse."""
        maps: dict[str, Tensor] = self.fpn(self.body(images_B3HW))
        return maps


def build_detection(options: Options, num_classes: int, given: Path | None) -> Detector:
    """The detector; `num_classes` counts the background, which is class 0."""
    network = options.network
    is_resnet = network.backbone.startswith("resnet")
    pyramid = _resnet_pyramid(options, given) if is_resnet else _level_pyramid(options, given)
    mean, std = colour_range(network.backbone)
    sizes = {
        "min_size": options.short_side,
        "max_size": options.long_side,
        "image_mean": list(mean),
        "image_std": list(std),
    }
    if network.model == "faster_rcnn":
        words = _faster_rcnn_words(options, pyramid, num_classes)
        net: nn.Module = FasterRCNN(pyramid.backbone, **words, **sizes)
    else:
        words = _retinanet_words(pyramid, num_classes)
        net = RetinaNet(pyramid.backbone, num_classes, **words, **sizes)
    weights_id = pyramid.weights_id
    if network.weights_of == "model":
        weights_id = load_model(net, network, given)
        _set_published_epsilon(net)
    for head in _BOX_HEADS[network.model]:
        net.get_submodule(head).register_forward_hook(_in_full_precision)
    return Detector(net, network, weights_id)


def _faster_rcnn_words(options: Options, pyramid: _Pyramid, num_classes: int) -> dict[str, Any]:
    number = options.network.num_proposals
    sizes = tuple((_SMALLEST_ANCHOR_PX * 2**n,) for n in range(len(pyramid.strides)))
    names = [str(n) for n in range(pyramid.num_pooled)]
    return {
        "rpn_anchor_generator": AnchorGenerator(sizes, (_RATIOS,) * len(sizes)),
        "rpn_pre_nms_top_n_train": 2 * number,
        "rpn_post_nms_top_n_train": 2 * number,
        "rpn_pre_nms_top_n_test": number,
        "rpn_post_nms_top_n_test": number,
        "box_roi_pool": MultiScaleRoIAlign(names, output_size=_ROI_SIZE, sampling_ratio=2),
        "box_head": TwoMLPHead(pyramid.channels * _ROI_SIZE**2, pyramid.width),
        "box_predictor": FastRCNNPredictor(pyramid.width, num_classes),
    }


def _retinanet_words(pyramid: _Pyramid, num_classes: int) -> dict[str, Any]:
    anchors = AnchorGenerator(_octaves(pyramid.strides), (_RATIOS,) * len(pyramid.strides))
    # The head starts with weights of 0.01: through fewer than 256 channels nothing would come.
    norm = None if pyramid.channels == _CHANNELS else partial(nn.GroupNorm, _NUM_GROUPS)
    number = anchors.num_anchors_per_location()[0]
    head = RetinaNetHead(pyramid.channels, number, num_classes, norm_layer=norm)
    return {"anchor_generator": anchors, "head": head}


def _octaves(strides: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """RetinaNet's three anchors an octave: from 4 strides on, as torchvision rounds them."""
    return tuple((4 * s, int(4 * s * 2 ** (1 / 3)), int(4 * s * 2 ** (2 / 3))) for s in strides)


def _resnet_pyramid(options: Options, given: Path | None) -> _Pyramid:
    """As torchvision builds it, with batch norm at rest unless it starts from scratch.

    With a weight file the stem and the first layer are frozen, torchvision's default.
    """
    network = options.network
    has_weights = not network.from_scratch
    norm = FrozenBatchNorm2d if has_weights else nn.BatchNorm2d
    body: models.ResNet = getattr(models, network.backbone)(weights=None, norm_layer=norm)
    weights_id = RANDOM_WEIGHTS_ID
    if network.weights_of == "backbone":
        weights_id = load_backbone(body, network, given)
    if has_weights:
        for part in ("conv1", "layer1"):
            body.get_submodule(part).requires_grad_(False)
    is_retina = network.model == "retinanet"
    layers = _RESNET_LAYERS[1:] if is_retina else _RESNET_LAYERS
    channels = [body.inplanes // 8 * 2**n for n in range(4)][-len(layers) :]
    extra = LastLevelP6P7(_CHANNELS, _CHANNELS) if is_retina else LastLevelMaxPool()
    names = {layer: str(n) for n, layer in enumerate(layers)}
    backbone = BackboneWithFPN(body, names, channels, _CHANNELS, extra)
    strides = (8, 16, 32, 64, 128) if is_retina else (4, 8, 16, 32, 64)
    return _Pyramid(backbone, _CHANNELS, weights_id, strides, len(layers), 1024)


def _level_pyramid(options: Options, given: Path | None) -> _Pyramid:
    network = options.network
    if network.backbone == "tiny":
        body = tiny_levels({3: "0", 4: "1"})
        pyramid = FeaturePyramid(body, 24, None)
        return _Pyramid(pyramid, 24, RANDOM_WEIGHTS_ID, (8, 16), 2, 64)
    levels, weights_id = shared_levels(
        network.backbone,
        {2: "0", 3: "1", 4: "2"},
        given,
        from_scratch=network.from_scratch,
        output_stride=32,
        rests_batch_norm=True,
    )
    backbone = FeaturePyramid(levels, 128, LastLevelMaxPool())
    return _Pyramid(backbone, 128, weights_id, (8, 16, 32, 64), 3, 256)


def _in_full_precision(head: nn.Module, _inputs: object, output: Any) -> Any:  # noqa: ANN401
    """What a head returns, as float32; in an evaluation NonFiniteError where it is no number.

    torchvision computes boxes in the precision of the head: in bfloat16 the corners of a box would
    be multiples of 4 pixels beyond pixel 512.
    """
    full = apply_to_tensors(output, Tensor.float)
    if not head.training:
        # torchvision drops boxes whose score is NaN: the image would have none, and an AP.
        apply_to_tensors(full, lambda each: require_finite(each, "a box or its score"))
    return full


def _set_published_epsilon(net: nn.Module) -> None:
    """Torchvision's first COCO detectors were trained without epsilon in their batch norm."""
    for module in net.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
