"""Methods by name, their options, and the one door that builds a whole model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from experiments.backbones.build import Backbone, build_backbone
from experiments.backbones.resnets import Stem
from experiments.fewshot.models.abcb.model import Abcb, AbcbOptions
from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.models.prototype import Prototype, PrototypeOptions
from merge.errors import UsageError

OptionValue = bool | int | float | str
OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, slots=True)
class Method(Generic[OptionsT]):
    """One few-shot method: its options and how it is built on a backbone."""

    options: type[OptionsT]
    build: Callable[[Backbone, OptionsT], FewShotModel]
    levels: Callable[[OptionsT], tuple[int, ...]]
    """Backbone levels that it reads."""


METHODS: dict[str, Method[Any]] = {
    "prototype": Method(PrototypeOptions, Prototype, lambda _: (2, 3)),
    "abcb": Method(AbcbOptions, Abcb, lambda options: options.levels),
}
"""Names a study may use for its method."""


def build_model(  # noqa: PLR0913
    method: str,
    backbone: str,
    *,
    weights: Path | None = None,
    from_scratch: bool = False,
    output_stride: int = 8,
    stem: Stem = "plain",
    options: Mapping[str, OptionValue] | None = None,
) -> FewShotModel:
    """Build a method on a backbone; the learned layers start from torch's global generator.

    Raises UsageError for an unknown name or option, DataError for an unusable weight file.
    """
    settings = parse_options(method, options or {})
    network = build_backbone(
        backbone,
        weights=weights,
        from_scratch=from_scratch,
        output_stride=output_stride,
        levels=METHODS[method].levels(settings),
        stem=stem,
    )
    return METHODS[method].build(network, settings)


def option_defaults(method: str) -> dict[str, OptionValue]:
    """Names and default values of a method's options. UsageError for an unknown method."""
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    return dataclasses.asdict(METHODS[method].options())


def parse_options(method: str, given: Mapping[str, OptionValue]) -> object:
    """The method's options dataclass. UsageError for an unknown name or a value it cannot take."""
    defaults = option_defaults(method)
    for name, value in given.items():
        if name not in defaults:
            raise UsageError(
                f"method {method} has no option {name!r}: it has {', '.join(defaults)}"
            )
        wish = _wish(method, name, defaults[name], value)
        if wish is not None:
            raise UsageError(f"option {name} of method {method} is {value!r}: it must be {wish}")
    settings: object = METHODS[method].options(**given)
    return settings


def _wish(method: str, name: str, default: OptionValue, value: OptionValue) -> str | None:
    """What the value should be instead, or None where it is right."""
    choices = get_args(get_type_hints(METHODS[method].options)[name])
    if choices:
        return None if value in choices else f"one of {', '.join(map(str, choices))}"
    kinds = (int, float) if type(default) is float else (type(default),)
    return None if type(value) in kinds else f"a value of type {type(default).__name__}"
