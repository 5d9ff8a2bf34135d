"""Options of the experiment `saliency`: the one declaration of their names, defaults and ranges.

`make options` writes options.yaml, which the control plane reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from experiments.runtime.options import FREE, OptimiserOptions, Range, RuntimeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Which images a run trains and tests on."""

    dataset: Literal["mit1003", "beacons"] = "mit1003"
    """Data set; beacons is generated on first use and needs no data root."""
    fixations: Literal["points", "observers"] = "points"
    """Of mit1003: white pixels of ALLFIXATIONMAPS, or fixations in the recordings of DATA."""
    storage: Annotated[Literal["files", "hdf5"], FREE] = "files"
    """Of mit1003: the published folders, or mit1003.hdf5 in the data root; numbers are equal."""
    split: Literal["holdout", "folds"] = "holdout"
    """One seeded split of nine tenths to one (902 and 101 images), or ten folds."""
    fold: Annotated[int, Range(0, 9)] = 0
    """With split=folds: the tenth of the images that is tested."""
    split_seed: Annotated[int, Range(0)] = 42
    """Seed of the split and of the folds."""
    validation: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of the training images on which the best epoch is chosen with report=best; with 0 it
    is chosen on the tested images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """What the model sees."""

    image_width: Annotated[int, Range(32)] = 1024
    """Width in pixels to which images are resized for the model."""
    image_height: Annotated[int, Range(32)] = 768
    """Height in pixels; metrics are those of the image's own size."""
    flip_probability: Annotated[float, Range(0, 1)] = 0.5
    """Probability that a training image is mirrored, with its fixations; an inference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasOptions:
    """The centre bias, which is also the baseline of the information gain."""

    bias_bandwidth: Annotated[float, Range(0.0001, 1)] = 0.02154
    """Standard deviation of its kernel as a fraction of width and height; 10 ** -1.667 is the one
    that DeepGaze's authors found by cross-validation on MIT1003."""
    bias_uniform: Annotated[float, Range(1e-30, 1)] = 1.3e-15
    """Share of the uniform density in it, by the same authors; with none a pixel far from all
    fixations would be impossible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The readout and its features."""

    backbone: str = "efficientnet_lite0"
    """Frozen features: efficientnet_lite0, resnet50, ..., or a timm model with --weights FILE."""
    hidden: Annotated[tuple[int, ...], Range(1)] = (32, 16, 2)
    """Channels of the readout's hidden 1x1 convolutions."""
    blur_cells: Annotated[float, Range(0.1)] = 1.0
    """First standard deviation of the learned blur, in cells of 8 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of a saliency run, in groups."""

    data: DataOptions = DataOptions()
    images: ImageOptions = ImageOptions()
    bias: BiasOptions = BiasOptions()
    model: ModelOptions = ModelOptions()
    variant: Literal["baseline", "entropy"] = "baseline"
    """Loss: the negative log likelihood of the fixations, or with a reward for the entropy of the
    predicted density."""
    entropy_weight: Annotated[float, Range(0)] = 0.05
    """Weight of the entropy, in nats, of the variant entropy; an inference."""
    pixels_per_degree: Annotated[float, Range(0.1)] = 35.0
    """Pixels of an image in one degree of visual angle: the blur of the empirical maps."""
    optimiser: OptimiserOptions = OptimiserOptions(optimizer="adamw", lr=0.001)
    runtime: RuntimeOptions = RuntimeOptions(epochs=20, global_batch=32, report="final")

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the model's input in pixels."""
        return self.images.image_width, self.images.image_height
