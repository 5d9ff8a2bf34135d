"""Torchvision's whole trained models: the files that hold them, and what their outputs mean."""

from __future__ import annotations

from experiments.backbones.weight_files import WeightSource
from experiments.datasets.class_names import class_name
from experiments.datasets.coco_boxes import BoxAnnotations
from experiments.datasets.image_folder import ImageFolder
from experiments.dense.options import ModelOptions, Options
from experiments.dense.sources import Images
from merge.errors import UsageError

_ADDRESS = "https://download.pytorch.org/models"

_FILES = {
    ("fcn", "resnet50"): "fcn_resnet50_coco-1167a1af.pth",
    ("fcn", "resnet101"): "fcn_resnet101_coco-7ecb50ca.pth",
    ("deeplabv3", "resnet50"): "deeplabv3_resnet50_coco-cd0a2569.pth",
    ("deeplabv3", "resnet101"): "deeplabv3_resnet101_coco-586e9e4e.pth",
    ("deeplabv3", "mobilenet_v3_large"): "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
    ("lraspp", "mobilenet_v3_large"): "lraspp_mobilenet_v3_large-d234d4ea.pth",
    ("faster_rcnn", "resnet50"): "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    ("retinanet", "resnet50"): "retinanet_resnet50_fpn_coco-eeacb38b.pth",
    ("classifier", "resnet18"): "resnet18-f37072fd.pth",
    ("classifier", "resnet50"): "resnet50-0676ba61.pth",
    ("classifier", "resnet101"): "resnet101-63fe2227.pth",
    ("classifier", "mobilenet_v3_large"): "mobilenet_v3_large-8738ca79.pth",
}
"""By model and backbone. The 8 digits are the start of the file's sha256."""

NUM_OUTPUTS = {"segmentation": 21, "detection": 91, "classification": 1000}
"""Outputs of the published models: VOC's classes, COCO's category ids, ImageNet's classes."""

_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_NAMES = {
    category: class_name("coco20i", class_id)
    for class_id, category in enumerate((n for n in range(1, 91) if n not in _GAPS), start=1)
}
"""Names of COCO's 80 categories by their ids, which have gaps."""


def model_source(network: ModelOptions) -> WeightSource:
    """Where the trained model's file comes from. UsageError: none is published."""
    key = (network.model, network.backbone)
    if key not in _FILES:
        known = ", ".join(sorted(f"{model} {backbone}" for model, backbone in _FILES))
        raise UsageError(
            f"weights_of=model: torchvision publishes no {network.model} with backbone "
            f"{network.backbone}; there are {known}"
        )
    return WeightSource(_FILES[key], f"download {_ADDRESS}/{_FILES[key]}")


def backbone_source() -> WeightSource:
    """Where MobileNetV3's ImageNet weights come from; those of other backbones are shared."""
    file = _FILES["classifier", "mobilenet_v3_large"]
    return WeightSource(file, f"download {_ADDRESS}/{file}")


def check_outputs(options: Options, images: Images) -> None:
    """UsageError where the classes of a data set are not those of the published model's outputs."""
    if options.network.weights_of != "model":
        return
    dataset, fix = options.data.dataset, "train with weights_of=backbone, or take another data set"
    if isinstance(images.train, ImageFolder):
        number, wanted = len(images.train.classes), NUM_OUTPUTS["classification"]
        if number != wanted:
            raise UsageError(
                f"weights_of=model: the published model has {wanted} classes, {dataset} has "
                f"{number}: {fix}"
            )
    if isinstance(images.train, BoxAnnotations):
        for number, name in images.train.categories.items():
            if COCO_NAMES.get(number) != name:
                raise UsageError(
                    f"weights_of=model: output {number} of the published model is "
                    f"{COCO_NAMES.get(number, 'nothing')!r}, category {number} of {dataset} is "
                    f"{name!r}: {fix}"
                )
