"""Options of the experiment `fewshot`: the one declaration of their names, defaults and ranges.

Defaults are the ABCB paper's recipe for PASCAL-5i where it states one; what it does not state is an
inference and says so. `make options` writes options.yaml, which the control plane reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from experiments.fewshot.episodes.protocols import DEFAULT_TEST_SEED
from experiments.runtime.options import (
    FREE,
    TESTS,
    OptimiserOptions,
    Prefix,
    Range,
    RuntimeOptions,
)
from merge.errors import UsageError

_DEEPEST = 4

OnCuda = Literal["auto", "on", "off"]
"""auto is on with CUDA and off on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Which data a run trains and tests on."""

    dataset: Literal["pascal5i", "coco20i", "shapes5i"] = "shapes5i"
    """Data set; shapes5i is generated on first use and needs no data root."""
    fold: Annotated[int, Range(0, 3)] = 0
    """Fold whose classes are tested; the other three folds' classes are trained."""
    shot: Annotated[int, Range(1, 10)] = 1
    """Support images in an episode."""
    protocol: Annotated[Literal["bam", "hsnet"], TESTS] = "bam"
    """Image lists, test episodes and resizing; results compare only within one protocol."""
    eval_size: Annotated[Literal["protocol", "original"], TESTS] = "protocol"
    """Size at which predictions are counted; protocol is original for bam, resized for hsnet."""
    mask_variant: Annotated[Literal["exact", "field"], TESTS] = "exact"
    """How COCO's objects become label maps; field is what most public code uses."""
    min_area_px: Annotated[int, Range(0), TESTS] = 0
    """Pixels of a class from which an image counts for it; 0 is the protocol's own rule or
    lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneOptions:
    """The feature extractor."""

    backbone: Literal[
        "resnet18",
        "resnet50",
        "resnet101",
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
    ] = "efficientnet_lite0"
    """Feature extractor; frozen unless it is trained from scratch."""
    from_scratch: bool = False
    """Start the backbone from random weights and train it too; no weight file is needed."""
    output_stride: Literal[8, 16, 32] = 8
    """Pixels per feature cell; 8 is an inference from the paper's MACs."""
    resnet_stem: Literal["plain", "deep"] = "plain"
    """Stem of resnet50 and resnet101; deep is PSPNet's, whose weights are resnet50_v2.pth."""
    deep_stem_dilation: Literal["every_block", "torchvision"] = "every_block"
    """Blocks that are dilated where the stem is deep; torchvision leaves out each level's first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrototypeOptions:
    """Options of the method `prototype`."""

    channels: Annotated[int, Range(1)] = 64
    """Width of the learned head of the method prototype."""
    similarity_scale: Annotated[float, Range(0)] = 10.0
    """Factor on the cosine similarities before the head of the method prototype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbcbOptions:
    """Options of the method `abcb`; docs/abcb.md says which defaults the paper states."""

    iterations: Annotated[int, Range(1)] = 3
    """T of the method abcb; 1 is the paper's baseline."""
    channels: Annotated[int, Range(1)] = 512
    """C of the method abcb."""
    num_heads: Annotated[int, Range(1)] = 8
    """Attention heads of the method abcb; they divide its channels."""
    num_bins: Annotated[int, Range(2)] = 16
    """Bins of the affinity histogram of the method abcb."""
    auxiliary_weight: Annotated[float, Range(0)] = 0.2
    """Weight of the predictions after support modulation in the loss of the method abcb."""
    neck: Literal["correlation", "convolution"] = "correlation"
    """Neck of the method abcb; correlation is HDMNet's matching, which the paper names."""
    neck_dropout: Annotated[float, Range(0, 0.95)] = 0.5
    """Dropout of channels in the correlation neck of the method abcb; that of HDMNet."""
    feature_levels: Literal["2,3", "3,4", "2,3,4"] = "2,3,4"
    """Backbone levels whose features the method abcb joins, the correlation neck only those below
    4; an inference."""
    prior_levels: Literal["3", "4", "3,4"] = "4"
    """Backbone levels whose cells the correlation neck of the method abcb compares; an
    inference."""
    support_image: Literal["whole", "masked"] = "whole"
    """What the backbone sees of a support for the method abcb; masked is HDMNet's; an inference."""
    cell_scale: Literal["unit", "none"] = "unit"
    """Whether the method abcb scales each cell's features to a mean square of 1; an inference."""
    neck_end: Literal["linear", "relu"] = "linear"
    """Whether a ReLU ends the neck of the method abcb; an inference."""
    initialisation: Literal["comparison", "random"] = "comparison"
    """Start of the method abcb; comparison is a distance to the support's mean; an inference."""
    evolution: Literal["both", "pixel", "statistics"] = "both"
    """Evolution feature of the method abcb; pixel is without Es, statistics without Ep."""
    has_cleansing: bool = True
    """Whether the method abcb cleanses; without it is the ablation "+SM"."""
    confidence_bias: Literal["entropy_rise", "entropy_fall", "none"] = "entropy_rise"
    """V of the method abcb's equation 5; its sign is an inference."""
    normalisation: Literal["none", "layer_norm"] = "none"
    """Of the tokens that enter an attention of the method abcb; an inference."""
    foreground_threshold: Annotated[float, Range(0, 1)] = 0.5
    """Probability above which the method abcb calls a query cell foreground; an inference."""
    support_threshold: Annotated[float, Range(0, 1)] = 0.5
    """Part of a support cell from which on the method abcb calls it foreground; an inference."""
    empty_foreground: Literal["keep", "peak"] = "keep"
    """Without foreground the method abcb keeps its tokens, or takes the peak; an inference."""
    shot_fusion: Literal["concatenate", "average"] = "concatenate"
    """How the method abcb joins shots; an inference."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Backbone levels that are read."""
        if self.neck == "convolution":
            return _numbers(self.feature_levels)
        return tuple(sorted({*self.joined_levels, *self.compared_levels}))

    @property
    def joined_levels(self) -> tuple[int, ...]:
        """Backbone levels whose features the correlation neck joins."""
        return tuple(level for level in _numbers(self.feature_levels) if level < _DEEPEST)

    @property
    def compared_levels(self) -> tuple[int, ...]:
        """Backbone levels whose cells the correlation neck compares."""
        return _numbers(self.prior_levels)

    def check(self) -> None:
        """UsageError for values that do not go together; called where the method is built.

        Not at the declaration: a study may sweep methods, and a run of another method ignores them.
        """
        if self.channels % self.num_heads:
            raise UsageError(
                f"method abcb: {self.channels} channels do not divide into {self.num_heads} heads"
            )
        if not (0 < self.foreground_threshold < 1 and 0 < self.support_threshold <= 1):
            raise UsageError("method abcb: a threshold must lie between 0 and 1")


def _numbers(levels: str) -> tuple[int, ...]:
    return tuple(int(level) for level in levels.split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """Size of the images, and how training images are varied."""

    image_size: Annotated[int, Range(16), TESTS] = 473
    """Side in pixels of training crops and of resized test images."""
    scale_min: Annotated[float, Range(0)] = 0.0
    """Least random scale of a training image; 0 is the field's, 0.8 on COCO and else 0.9; an
    inference."""
    scale_max: Annotated[float, Range(0)] = 0.0
    """Largest random scale of a training image; 0 is the field's, 1.25 on COCO and else 1.1; an
    inference."""
    scale_of: Literal["original", "image_size"] = "original"
    """Size that a scale of 1 gives: the image's own, as in the field's code, or its longer side at
    image_size, which suits crops much smaller than the images; an inference."""
    crop_keeps: Annotated[float, Range(0, 1)] = 0.85
    """Part of the object that a training crop keeps, if 31 draws find such a crop; an inference."""
    ignored_pixels: Literal["ignored", "background"] = "ignored"
    """What 255 in a label map is in training; HSNet's code trains with it as background."""
    flip_probability: Annotated[float, Range(0, 1)] = 0.5
    """Probability of a horizontal flip."""
    test_multiple: Annotated[int, Range(1)] = 8
    """Protocol bam: both sides of a resized test image are rounded down to a multiple of it."""
    test_padding: Literal["mean", "black"] = "mean"
    """Protocol bam: colour of the padding in a test; BAM's code has black."""

    def __post_init__(self) -> None:
        if self.scale_min > self.scale_max > 0:
            raise UsageError(
                f"scale_min={self.scale_min} is above scale_max={self.scale_max}: swap them"
            )

    def scale_range(self, dataset: str) -> tuple[float, float]:
        """The least and the largest random scale on a data set."""
        least, largest = (0.8, 1.25) if dataset == "coco20i" else (0.9, 1.1)
        return self.scale_min or least, self.scale_max or largest


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How episodes become gradients."""

    episodes_per_epoch: Annotated[int, Range(0)] = 0
    """Training episodes in an epoch; 0 is one pass over the images (hsnet on PASCAL, pairs)."""
    head_rate_factor: Annotated[float, Range(0)] = 1.0
    """Learning rate of all but the backbone relative to lr; 10 is that of PFENet and BAM, an
    inference for the method abcb."""
    dice_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the Dice loss that is added to the cross entropy."""
    compile: OnCuda = "auto"
    """Compile backbone, neck and iterations in fixed shapes; needs a C++ compiler."""
    channels_last: OnCuda = "auto"
    """Keep images and convolutions in the memory format channels-last."""
    constant_backbone: OnCuda = "auto"
    """Fold a frozen backbone's batch norm into its convolutions, and cast its weights once."""
    fixed_shapes: OnCuda = "auto"
    """Token sets of the method abcb as ranges of all cells, with a histogram kernel; on CUDA the
    kernel needs a C++ compiler. As the three above: auto is on with CUDA; rounds differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestOptions:
    """What is tested and shown."""

    test_episodes: Annotated[int, Range(1), TESTS] = 1000
    """Episodes of the fixed test list of each test seed."""
    test_seeds: Annotated[tuple[int, ...], Range(0, 4294967295), TESTS] = ()
    """A test list is drawn for each, and the metrics are their means; none is the protocol's
    own."""
    feature_cache_mb: Annotated[int, Range(-1), FREE] = -1
    """Memory for features of test images, where they are computed; 0 keeps none, -1 is 2 GiB on a
    CPU and half of what is free on a GPU."""
    num_panels: Annotated[int, Range(0), FREE] = 4
    """Test episodes drawn as PNG panels at the end."""

    def __post_init__(self) -> None:
        if len(set(self.test_seeds)) < len(self.test_seeds):
            raise UsageError(f"test_seeds={list(self.test_seeds)} has a seed twice: name each once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of a few-shot run, in groups."""

    data: DataOptions = DataOptions()
    encoder: BackboneOptions = BackboneOptions()
    method: Literal["prototype", "abcb"] = "prototype"
    """Few-shot segmentation method."""
    prototype: Annotated[PrototypeOptions, Prefix("prototype_")] = PrototypeOptions()
    abcb: Annotated[AbcbOptions, Prefix("abcb_")] = AbcbOptions()
    images: ImageOptions = ImageOptions()
    training: TrainingOptions = TrainingOptions()
    test: TestOptions = TestOptions()
    optimiser: OptimiserOptions = OptimiserOptions()
    runtime: RuntimeOptions = RuntimeOptions(epochs=250, global_batch=16, eval_every=5)

    # As in sweeps that were frozen before the options had groups.
    # fmt: off
    ORDER: ClassVar[tuple[str, ...]] = (
        "dataset", "fold", "shot", "backbone", "from_scratch", "output_stride", "resnet_stem",
        "deep_stem_dilation", "method", "prototype_channels", "prototype_similarity_scale",
        "abcb_iterations", "abcb_channels", "abcb_num_heads", "abcb_num_bins",
        "abcb_auxiliary_weight", "abcb_neck", "abcb_neck_dropout", "abcb_feature_levels",
        "abcb_prior_levels", "abcb_support_image", "abcb_cell_scale", "abcb_neck_end",
        "abcb_initialisation", "abcb_evolution", "abcb_has_cleansing", "abcb_confidence_bias",
        "abcb_normalisation", "abcb_foreground_threshold", "abcb_support_threshold",
        "abcb_empty_foreground", "abcb_shot_fusion", "protocol", "eval_size", "mask_variant",
        "min_area_px", "image_size", "scale_min", "scale_max", "scale_of", "crop_keeps",
        "ignored_pixels", "flip_probability", "test_multiple", "test_padding", "epochs",
        "episodes_per_epoch", "global_batch", "micro_batch", "optimizer", "lr", "momentum",
        "weight_decay", "poly_power", "head_rate_factor", "dice_weight", "amp", "compile",
        "channels_last", "constant_backbone", "fixed_shapes", "seed", "test_episodes", "test_seeds",
        "eval_every", "eval_chunk", "report", "checkpoint_every_steps", "checkpoint_every_s",
        "feature_cache_mb", "num_panels", "tensorboard", "collective_timeout_s", "loader_timeout_s",
        "clip_norm", "ema_decay", "sync_batch_norm", "checkpoint_activations", "deterministic",
        "tf32", "nesterov", "decay_norms_and_biases", "schedule", "milestones", "gamma",
        "warmup_epochs", "warmup_factor",
    )
    # fmt: on

    @property
    def test_seeds(self) -> tuple[int, ...]:
        """The test seeds, the protocol's own where none is named."""
        return self.test.test_seeds or (DEFAULT_TEST_SEED[self.data.protocol],)

    @property
    def num_iterations(self) -> int:
        """How often the method predicts an episode, each time refined."""
        return self.abcb.iterations if self.method == "abcb" else 1

    @property
    def counts_at_original_size(self) -> bool:
        """Whether predictions are counted at the images' own size, not as they were resized."""
        return self.data.protocol == "bam" or self.data.eval_size == "original"
