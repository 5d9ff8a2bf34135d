"""Options of the experiment `camouflage`: the one declaration of their names, defaults and ranges.

Defaults are the original recipe where it states one: 352 pixels, 30 epochs of the decoder alone and
120 of everything, 7 experts, a moving average with decay 0.9999, OneCycle, 32 images a GPU on two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from experiments.runtime.options import (
    FREE,
    TESTS,
    OptimiserOptions,
    Prefix,
    Range,
    RuntimeOptions,
)
from merge.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Which data a run trains and tests on."""

    dataset: Literal["cod10k", "tiny_cod10k"] = "cod10k"
    """Data set; tiny_cod10k is generated on first use and needs no data root."""
    subset: Annotated[Literal["cam", "all"], TESTS] = "cam"
    """Images of COD10K with a camouflaged object, or every image of the folders."""
    validation: Annotated[float, Range(0)] = 0.1
    """Training images that do not train but choose the best epoch: a share below 1, or a number."""
    validation_seed: Annotated[int, Range(0)] = 0
    """Seed by which they are drawn; repeats with other training seeds share them."""
    best_on: Literal["validation", "test"] = "validation"
    """Images on which the best epoch is chosen; with test all training images train."""
    images_per_epoch: Annotated[int, Range(0)] = 0
    """Training images that are drawn for each epoch; 0 is all of them."""
    test_images: Annotated[int, Range(0), TESTS] = 0
    """Test images, drawn once by validation_seed, for a quick look; 0 is all of them."""

    def __post_init__(self) -> None:
        if self.best_on == "validation" and self.validation == 0:
            raise UsageError(
                "validation=0 leaves no image to choose the best epoch on: set a share such as "
                "0.1, or best_on=test"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneOptions:
    """The feature extractor."""

    backbone: str = "edgenext_base"
    """A timm model with a features-only form, such as edgenext_base, efficientnet_lite0 to lite2
    (their weights come with papergrid), pvt_v2_b4 or resnet50."""
    from_scratch: bool = False
    """Start the backbone from random weights; no weight file is needed."""
    backbone_rate_factor: Annotated[float, Range(0)] = 0.1
    """Learning rate of a pretrained backbone relative to the decoder's; from scratch it is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderOptions:
    """The decoder and its mixture of experts."""

    channels: Annotated[int, Range(1)] = 64
    """Width of the decoder."""
    num_experts: Annotated[int, Range(1)] = 7
    """Experts at each level of the decoder but the finest."""
    top_k: Annotated[int, Range(1)] = 2
    """Experts that each pixel of a feature map is sent to; at most num_experts."""
    expert_width: Annotated[int, Range(1)] = 128
    """Hidden units of an expert."""
    balance_weight: Annotated[float, Range(0)] = 0.01
    """Weight of the loss that spreads an image's pixels over the experts."""

    def check(self) -> None:
        """UsageError for values that do not go together.

        Not at the declaration: a study sweeps num_experts, and `check.py` names such runs first.
        """
        if self.top_k > self.num_experts:
            raise UsageError(
                f"top_k={self.top_k} is more than num_experts={self.num_experts}: lower top_k"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentOptions:
    """How training images are varied."""

    flip_probability: Annotated[float, Range(0, 1)] = 0.5
    """Probability of a horizontal flip."""
    crop_min: Annotated[float, Range(0.05, 1)] = 0.8
    """Least part of each side that a random crop keeps."""
    colour_jitter: Annotated[float, Range(0, 1)] = 0.2
    """Largest relative change of brightness, contrast and saturation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderStageOptions:
    """The first stage, in which the decoder trains on a backbone that rests."""

    epochs: Annotated[int, Range(0)] = 30
    """Epochs of the decoder alone; the rest of `epochs` trains everything."""
    lr: Annotated[float, Range(0)] = 0.001
    """Highest learning rate of the decoder alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of a run, in groups."""

    data: DataOptions = DataOptions()
    encoder: BackboneOptions = BackboneOptions()
    decoder: DecoderOptions = DecoderOptions()
    image_size: Annotated[int, Range(32), TESTS] = 352
    """Side in pixels to which images are squeezed; scores count at the images' own size."""
    num_panels: Annotated[int, Range(0), FREE] = 6
    """Test images drawn with their maps as a PNG at the end."""
    augment: AugmentOptions = AugmentOptions()
    decoder_stage: Annotated[DecoderStageOptions, Prefix("decoder_")] = DecoderStageOptions()
    optimiser: OptimiserOptions = OptimiserOptions(
        optimizer="adamw", lr=0.0005, weight_decay=0.01, schedule="onecycle"
    )
    runtime: RuntimeOptions = RuntimeOptions(
        epochs=150, global_batch=64, eval_every=10, ema_decay=0.9999, clip_norm=1.0
    )
