"""Methods by name, and the one function that builds a whole model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from experiments.backbones.build import Backbone, build_backbone
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.models.prototype import Prototype
from experiments.fewshot.options import AbcbOptions, Options, PrototypeOptions

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, slots=True)
class Method(Generic[OptionsT]):
    """How a few-shot method is built on a backbone."""

    build: Callable[[Backbone, OptionsT], FewShotModel]
    levels: Callable[[OptionsT], tuple[int, ...]]
    """Backbone levels that it reads."""

    def on_backbone(
        self, options: OptionsT, new_backbone: Callable[[tuple[int, ...]], Backbone]
    ) -> FewShotModel:
        """The method on a new backbone that gives the levels it reads."""
        return self.build(new_backbone(self.levels(options)), options)


PROTOTYPE: Method[PrototypeOptions] = Method(Prototype, lambda _: (2, 3))
ABCB: Method[AbcbOptions] = Method(Abcb, lambda options: options.levels)


def build_method(options: Options, weights: Path | None = None) -> FewShotModel:
    """The method that `options` name, on its backbone.

    Learned layers start from torch's global generator. DataError: `weights`, the backbone's weight
    file, cannot be used. UsageError: options that do not go together.
    """

    def new_backbone(levels: tuple[int, ...]) -> Backbone:
        encoder = options.encoder
        return build_backbone(
            encoder.backbone,
            weights=weights,
            from_scratch=encoder.from_scratch,
            output_stride=encoder.output_stride,
            levels=levels,
            stem=encoder.resnet_stem,
            deep_dilation=encoder.deep_stem_dilation,
        )

    if options.method == "abcb":
        return ABCB.on_backbone(options.abcb, new_backbone)
    return PROTOTYPE.on_backbone(options.prototype, new_backbone)
