"""An experiment's options as data (its options.yaml), and a config dataclass built from them.

The control plane reads the same file to check a study before anything starts; here the check is
repeated, because a trainer can also be started by hand.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml

from merge.errors import UsageError
from merge.storage.json_files import Json, is_finite_number

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ConfigT = TypeVar("ConfigT")

_SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: `type` is int, float, str, bool, or list[one of them]."""

    type: str
    default: Json
    help: str
    choices: tuple[Json, ...] = ()
    min: float | None = None
    max: float | None = None
    decides_numbers: bool = True
    """Read by the control plane: whether it is part of the configuration's hash."""


def load_options(path: Path) -> dict[str, Option]:
    """The options that `path` lists, by name."""
    entries = yaml.safe_load(path.read_text("utf-8"))
    return {
        name: Option(**{**entry, "choices": tuple(entry.get("choices", ()))})
        for name, entry in entries.items()
    }


def build_config(
    config_type: type[ConfigT], options: Mapping[str, Option], values: Mapping[str, Json]
) -> ConfigT:
    """The config with `values` over the defaults. UsageError lists all that is wrong with them."""
    problems = [
        problem
        for name, value in values.items()
        if (problem := _check_value(name, value, options)) is not None
    ]
    if problems:
        raise UsageError("; ".join(problems))
    given = {name: _convert(options[name].type, value) for name, value in values.items()}
    return config_type(**given)


def options_of(config: DataclassInstance) -> dict[str, Json]:
    """A config as JSON values, for a result's details."""
    values = dataclasses.asdict(config)
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def _check_value(name: str, value: Json, options: Mapping[str, Option]) -> str | None:
    option = options.get(name)
    if option is None:
        near = difflib.get_close_matches(name, options, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(options)}"
        return f"unknown option {name!r}: {hint}"
    if not _has_type(option.type, value):
        return f"option {name!r} is {value!r}: it must be of type {option.type}"
    for item in value if isinstance(value, list) else [value]:
        problem = _check_item(name, item, option)
        if problem is not None:
            return problem
    return None


def _check_item(name: str, item: Json, option: Option) -> str | None:
    if option.choices and item not in option.choices:
        choices = ", ".join(str(choice) for choice in option.choices)
        return f"option {name!r} is {item!r}: choose one of {choices}"
    if isinstance(item, int | float):
        if option.min is not None and item < option.min:
            return f"option {name!r} is {item!r}: the least is {option.min}"
        if option.max is not None and item > option.max:
            return f"option {name!r} is {item!r}: the most is {option.max}"
    return None


def _has_type(kind: str, value: Json) -> bool:
    if kind.startswith("list["):
        inner = kind.removeprefix("list[").removesuffix("]")
        return isinstance(value, list) and all(_has_type(inner, item) for item in value)
    if kind == "float":
        return is_finite_number(value)
    return type(value) is _SCALARS[kind]


def _convert(kind: str, value: Json) -> object:
    if isinstance(value, list):
        inner = kind.removeprefix("list[").removesuffix("]")
        return tuple(_convert(inner, item) for item in value)
    return float(value) if kind == "float" and isinstance(value, int) else value
