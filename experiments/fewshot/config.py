"""The configuration of one few-shot run: options.yaml as a typed, frozen object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from experiments.fewshot.episodes.protocols import DEFAULT_TEST_SEED
from experiments.runtime.options import build_config, load_options
from experiments.runtime.precision import Amp
from merge.errors import UsageError
from merge.records.sweep import DeviceKind
from merge.storage.json_files import Json

OPTIONS_PATH = Path(__file__).with_name("options.yaml")

Protocol = Literal["bam", "hsnet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShotConfig:
    """One field per option; options.yaml says what each means."""

    dataset: str = "shapes5i"
    fold: int = 0
    shot: int = 1
    backbone: str = "efficientnet_lite0"
    from_scratch: bool = False
    output_stride: int = 8
    resnet_stem: Literal["plain", "deep"] = "plain"
    method: str = "prototype"
    prototype_channels: int = 64
    prototype_similarity_scale: float = 10.0
    abcb_iterations: int = 3
    abcb_channels: int = 512
    abcb_num_heads: int = 8
    abcb_num_bins: int = 16
    abcb_auxiliary_weight: float = 0.2
    abcb_feature_levels: str = "2,3,4"
    abcb_cell_scale: str = "unit"
    abcb_neck_end: str = "linear"
    abcb_initialisation: str = "comparison"
    abcb_evolution: str = "both"
    abcb_has_cleansing: bool = True
    abcb_confidence_bias: str = "entropy_rise"
    abcb_normalisation: str = "none"
    abcb_foreground_threshold: float = 0.5
    abcb_support_threshold: float = 0.5
    abcb_empty_foreground: str = "keep"
    abcb_shot_fusion: str = "concatenate"
    protocol: Protocol = "bam"
    eval_size: Literal["protocol", "original"] = "protocol"
    mask_variant: str = "exact"
    min_area_px: int = 0
    image_size: int = 473
    scale_min: float = 0.9
    scale_max: float = 1.1
    flip_probability: float = 0.5
    epochs: int = 250
    episodes_per_epoch: int = 0
    global_batch: int = 16
    micro_batch: int = 0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.002
    momentum: float = 0.9
    weight_decay: float = 1e-4
    poly_power: float = 0.9
    dice_weight: float = 0.0
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    compile: bool = False
    channels_last: bool = False
    seed: int = 0
    test_episodes: int = 1000
    test_seeds: tuple[int, ...] = ()
    eval_every: int = 5
    report: Literal["best", "final"] = "best"
    checkpoint_every_steps: int = 0
    checkpoint_every_s: float = 300.0
    feature_cache_mb: int = 2048
    num_panels: int = 4
    tensorboard: bool = True
    collective_timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        if self.scale_min > self.scale_max:
            raise UsageError(
                f"scale_min={self.scale_min} is above scale_max={self.scale_max}: swap them"
            )
        if len(set(self.test_seeds)) < len(self.test_seeds):
            raise UsageError(f"test_seeds={list(self.test_seeds)} has a seed twice: name each once")

    @property
    def chosen_test_seeds(self) -> tuple[int, ...]:
        """The test seeds, the protocol's own where none is named."""
        return self.test_seeds or (DEFAULT_TEST_SEED[self.protocol],)

    @property
    def counts_at_original_size(self) -> bool:
        """Whether predictions are counted at the images' own size, not as they were resized."""
        return self.protocol == "bam" or self.eval_size == "original"

    @property
    def method_options(self) -> dict[str, bool | int | float | str]:
        """The options whose names begin with the method's, without that beginning."""
        prefix = f"{self.method}_"
        return {
            field.name.removeprefix(prefix): getattr(self, field.name)
            for field in fields(self)
            if field.name.startswith(prefix)
        }


def read_config(values: Mapping[str, Json]) -> FewShotConfig:
    """The config of a run.json. UsageError lists unknown names and unusable values."""
    return build_config(FewShotConfig, load_options(OPTIONS_PATH), values)


def resolve_amp(config: FewShotConfig, device_kind: DeviceKind, *, has_bf16: bool) -> Amp:
    """The precision that `amp` means on this device. UsageError: it was asked for on the CPU."""
    if config.amp == "auto":
        if device_kind == "cpu":
            return "off"
        return "bf16" if has_bf16 else "fp16"
    if config.amp != "off" and device_kind == "cpu":
        raise UsageError(
            f"amp={config.amp} needs a GPU and this run is on the CPU: set amp=off or amp=auto"
        )
    return config.amp
