"""Options of the experiment `dense`; docs/dense.md says what each protocol is.

Where a size is 0 it is that of torchvision's own recipe for the task, which its published numbers
were measured with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from experiments.runtime.options import TESTS, OptimiserOptions, Range, RuntimeOptions
from merge.errors import UsageError

TaskName = Literal["segmentation", "detection", "classification"]

MODELS: dict[str, tuple[str, ...]] = {
    "segmentation": ("fcn", "deeplabv3", "lraspp"),
    "detection": ("faster_rcnn", "retinanet"),
    "classification": ("classifier",),
}
DATASETS: dict[str, tuple[str, ...]] = {
    "segmentation": ("voc2012", "coco2017", "coco2014", "shapes3_voc", "shapes3_coco"),
    "detection": ("voc2012", "coco2017", "coco2014", "shapes3_voc", "shapes3_coco"),
    "classification": ("image_folder", "shapes5"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Which data a run trains and tests on."""

    dataset: Literal[
        "voc2012", "coco2017", "coco2014", "image_folder", "shapes3_voc", "shapes3_coco", "shapes5"
    ] = "shapes3_voc"
    """Data set; shapes3_* and shapes5 are generated on first use, in the same layouts."""
    label_maps: Literal["voc", "augmented"] = "voc"
    """VOC segmentation: SegmentationClass with its lists, or SegmentationClassAug with all images
    outside of val."""
    num_train_images: Annotated[int, Range(0)] = 0
    """Training images, drawn with the seed; 0 is all."""
    num_test_images: Annotated[int, Range(0), TESTS] = 0
    """Test images, drawn with one seed for all runs; 0 is all."""
    validation_fraction: Annotated[float, Range(0, 0.9)] = 0.0
    """Part of the training images, drawn with the seed, that is not trained: the best epoch is
    chosen on it. 0 chooses on the test images."""
    min_area_px: Annotated[int, Range(0)] = 1000
    """COCO segmentation: training images with fewer pixels of VOC's classes are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What is trained."""

    model: Literal["fcn", "deeplabv3", "lraspp", "faster_rcnn", "retinanet", "classifier"] = "fcn"
    """Model of the task: fcn, deeplabv3, lraspp; faster_rcnn, retinanet; classifier."""
    backbone: Literal[
        "resnet18",
        "resnet50",
        "resnet101",
        "mobilenet_v3_large",
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
        "tiny",
    ] = "efficientnet_lite0"
    """Feature extractor; tiny has 12 thousand weights and no weight file."""
    variant: Literal["full", "frozen_backbone"] = "full"
    """Whether all trains, or only the head on a backbone that keeps its weights and statistics."""
    from_scratch: bool = False
    """Start the backbone from random weights; no weight file is needed."""
    weights_of: Literal["backbone", "model"] = "backbone"
    """What the weight file holds: an ImageNet backbone, or torchvision's whole trained model, which
    epochs=0 evaluates as it is."""
    auxiliary_weight: Annotated[float, Range(0)] = 0.5
    """Weight of the auxiliary head's loss in fcn and deeplabv3."""
    auxiliary_rate: Annotated[float, Range(0)] = 10.0
    """Learning rate of the auxiliary head relative to the others, as in torchvision's recipe."""
    num_proposals: Annotated[int, Range(1), TESTS] = 1000
    """faster_rcnn: proposals that a test image keeps; training keeps twice as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """Sizes of the images, and how training images are varied."""

    short_side: Annotated[int, Range(0), TESTS] = 0
    """Shorter side of a resized image in pixels; 0 is 520 (segmentation), 800, 256."""
    long_side: Annotated[int, Range(0), TESTS] = 0
    """Detection: largest longer side of a resized image in pixels; 0 is 1333."""
    crop_size: Annotated[int, Range(0)] = 0
    """Side of training crops, of classification also of the tested centre; 0 is 480 and 224."""
    scale_min: Annotated[float, Range(0.05)] = 0.5
    """Segmentation: least random scale of a training image's shorter side."""
    scale_max: Annotated[float, Range(0.05)] = 2.0
    """Segmentation: largest random scale of a training image's shorter side."""
    area_min: Annotated[float, Range(0.01, 1)] = 0.08
    """Classification: least part of a training image that a random crop covers."""
    flip_probability: Annotated[float, Range(0, 1)] = 0.5
    """Probability of a horizontal flip."""

    def __post_init__(self) -> None:
        if self.scale_min > self.scale_max:
            raise UsageError(
                f"scale_min={self.scale_min} is above scale_max={self.scale_max}: swap them"
            )


_SHORT_SIDE = {"segmentation": 520, "detection": 800, "classification": 256}
_CROP_SIZE = {"segmentation": 480, "detection": 0, "classification": 224}
_LONG_SIDE = 1333


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of a run, in groups."""

    MAY_SKIP_TRAINING: ClassVar[bool] = True

    task: TaskName = "segmentation"
    """What is learned; the model and the data set must be of it."""
    data: DataOptions = DataOptions()
    network: ModelOptions = ModelOptions()
    images: ImageOptions = ImageOptions()
    optimiser: OptimiserOptions = OptimiserOptions(lr=0.02)
    runtime: RuntimeOptions = RuntimeOptions(epochs=30, global_batch=32)

    @property
    def short_side(self) -> int:
        """Shorter side of a resized image."""
        return self.images.short_side or _SHORT_SIDE[self.task]

    @property
    def long_side(self) -> int:
        """Largest longer side of an image for detection."""
        return max(self.images.long_side or _LONG_SIDE, self.short_side)

    @property
    def crop_size(self) -> int:
        """Side of a crop; detection has none."""
        return self.images.crop_size or _CROP_SIZE[self.task]

    def check(self) -> None:
        """UsageError for values that do not go together.

        Not at the declaration: a study is checked one value at a time.
        """
        self._check_choice("model", self.network.model, MODELS)
        self._check_choice("dataset", self.data.dataset, DATASETS)
        network = self.network
        if network.model == "lraspp" and not _is_mobile(network):
            raise UsageError("model lraspp needs backbone=mobilenet_v3_large")
        if _is_mobile(network) and network.model not in ("lraspp", "deeplabv3", "classifier"):
            raise UsageError(
                f"model {network.model} has no backbone mobilenet_v3_large: choose lraspp, "
                "deeplabv3 or classifier, or another backbone"
            )
        if network.backbone == "tiny" and not network.from_scratch:
            raise UsageError("backbone tiny has no weight file: set from_scratch=true")
        if network.from_scratch and network.weights_of == "model":
            raise UsageError("from_scratch=true and weights_of=model exclude each other: set one")
        if network.from_scratch and network.variant == "frozen_backbone":
            raise UsageError(
                "variant=frozen_backbone keeps the backbone's weights, which from_scratch=true "
                "draws at random: set one"
            )

    def _check_choice(self, name: str, value: str, choices: dict[str, tuple[str, ...]]) -> None:
        if value not in choices[self.task]:
            raise UsageError(
                f"{name} {value} is none of task {self.task}: choose one of "
                f"{', '.join(choices[self.task])}, or another task"
            )


def _is_mobile(network: ModelOptions) -> bool:
    return network.backbone == "mobilenet_v3_large"
