"""Which weight file a run starts from, and the outputs of torchvision's models. No torch."""

from __future__ import annotations

from experiments.backbones.weight_files import WeightSource, model_source, weight_source
from experiments.datasets.class_names import class_name
from experiments.datasets.coco_boxes import BoxAnnotations
from experiments.datasets.image_folder import ImageFolder
from experiments.dense.options import ModelOptions, Options
from experiments.dense.sources import Images
from merge.errors import UsageError

_BUILDERS = {
    "fcn": "fcn_{}",
    "deeplabv3": "deeplabv3_{}",
    "lraspp": "lraspp_{}",
    "faster_rcnn": "fasterrcnn_{}_fpn",
    "retinanet": "retinanet_{}_fpn",
    "classifier": "{}",
}
"""Names of torchvision's functions, by model; a backbone's name stands in the braces."""

NUM_OUTPUTS = {"segmentation": 21, "detection": 91, "classification": 1000}
"""Outputs of the published models: VOC's classes, COCO's category ids, ImageNet's classes."""

_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_NAMES = {
    category: class_name("coco20i", class_id)
    for class_id, category in enumerate((n for n in range(1, 91) if n not in _GAPS), start=1)
}
"""Names of COCO's 80 categories by their ids, which have gaps."""


def weights_of_run(network: ModelOptions) -> WeightSource:
    """Where the file comes from that a run starts from. UsageError: no such model is published."""
    if network.weights_of == "model":
        return model_source(_BUILDERS[network.model].format(network.backbone))
    if network.backbone == "mobilenet_v3_large":
        return model_source(network.backbone)
    return weight_source(network.backbone)


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
