"""Options of the experiment `imagenet`: the one declaration of their names, defaults and ranges.

Defaults are small, for the generated set; the study `imagenet` has the recipe for ImageNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from experiments.runtime.options import (
    TESTS,
    OptimiserOptions,
    Prefix,
    Range,
    RuntimeOptions,
)
from merge.errors import UsageError

Network = Literal[
    "tiny",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet26d",
    "resnet50d",
    "resnet101d",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Which images are trained on and tested."""

    dataset: Literal["imagenet", "shapes5"] = "shapes5"
    """Data set: imagenet is any folder of images by class below the data root; shapes5 is generated
    on first use."""
    validation: Annotated[float, Range(0)] = 0.0
    """Share (below 1) or number of training images that are held out, to choose the best epoch on;
    0 holds out none."""
    subset: Annotated[int, Range(0)] = 0
    """Images of each split that are used, to try a recipe: training images are drawn by the seed,
    test images are the same for every seed. 0 uses all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The network."""

    network: Network = "tiny"
    """Network: resnet18 to resnet101 are torchvision's, those with a d timm's; tiny is a test's."""
    start: Literal["random", "weights"] = "random"
    """Begin with random weights, or with those of a weight file, its classifier included."""
    blur_pool: bool = False
    """Blur by (1 2 1) before each strided convolution of 16 or more channels."""
    channels_last: bool = False
    """Keep images and convolutions in the memory format channels-last; rounds differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeOptions:
    """Sides of the images in pixels, by epoch."""

    first_size: Annotated[int, Range(8)] = 32
    """Side of the training images in the first epochs."""
    last_size: Annotated[int, Range(8)] = 32
    """Side of the training images in the last epochs."""
    ramp_start: Annotated[int, Range(0)] = 0
    """Last epoch, counted from 0, with first_size; from there the side rises linearly."""
    ramp_end: Annotated[int, Range(0)] = 0
    """First epoch, counted from 0, with last_size."""
    size_step: Annotated[int, Range(1)] = 32
    """Sides between first_size and last_size are rounded to a multiple of it."""
    test_size: Annotated[int, Range(8), TESTS] = 32
    """Side of the test images: the centre of the image, whose shorter side is first resized to
    test_size / test_crop."""
    test_crop: Annotated[float, Range(0.1, 1), TESTS] = 0.875
    """Part of the shorter side that a test image shows."""
    flip_test: Annotated[bool, TESTS] = False
    """Predict the mean of each test image and its mirror image."""

    def __post_init__(self) -> None:
        if self.ramp_end < self.ramp_start:
            raise UsageError(
                f"ramp_end={self.ramp_end} is before ramp_start={self.ramp_start}: the image size "
                "rises from the first to the second"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationOptions:
    """How training images are varied."""

    scale_min: Annotated[float, Range(0.01, 1)] = 0.08
    """Least part of the image's area that a training crop shows."""
    flip_probability: Annotated[float, Range(0, 1)] = 0.5
    """Probability of a horizontal flip."""
    label_smoothing: Annotated[float, Range(0, 1)] = 0.1
    """Label smoothing of the training loss; the loss of a test has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixResOptions:
    """The final stage at the test size, after "Fixing the train-test resolution discrepancy"."""

    epochs: Annotated[int, Range(0)] = 0
    """Epochs at the end that train at test_size, on crops as in a test; 0 leaves the stage out."""
    trains: Literal["classifier", "classifier_and_last_norm"] = "classifier_and_last_norm"
    """What that stage trains; all else rests."""
    lr: Annotated[float, Range(0)] = 0.001
    """Learning rate of that stage; it falls along half a cosine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of a run, in groups."""

    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    sizes: SizeOptions = SizeOptions()
    augmentation: AugmentationOptions = AugmentationOptions()
    fixres: Annotated[FixResOptions, Prefix("fixres_")] = FixResOptions()
    optimiser: OptimiserOptions = OptimiserOptions(
        lr=0.05,
        weight_decay=5e-5,
        decay_norms_and_biases=False,
        schedule="poly",
        poly_power=1.0,
        warmup_epochs=1.0,
    )
    runtime: RuntimeOptions = RuntimeOptions(
        epochs=6, global_batch=20, eval_chunk=64, report="final"
    )

    MAY_SKIP_TRAINING: ClassVar[bool] = True
    """With epochs=0 and start=weights a run tests published weights."""

    def __post_init__(self) -> None:
        if self.runtime.epochs and self.fixres.epochs >= self.runtime.epochs:
            raise UsageError(
                f"fixres_epochs={self.fixres.epochs} leaves no epoch of epochs="
                f"{self.runtime.epochs} to train in: the FixRes stage is the end of the training"
            )
