"""The options of an experiment: read from its `options.yaml`, a file; the trainer is not imported.

experiments/<name>/options.yaml holds one entry for each option, and each has a default:

    epochs: {type: int, default: 50, min: 1, help: "passes over the training episodes"}
    method: {type: str, default: prototype, choices: [prototype, abcb], help: "..."}

A type is int, float, bool, str, or a list of one of them (`list[int]`), whose items are each held
to choices, min and max. `decides_numbers: false` marks an option on which no result depends, such
as how often a checkpoint is written: it may change under a begun sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import Field

from merge.errors import StudyError
from merge.records.sweep import Value
from merge.wording import did_you_mean, hint, listed
from orchestrator.config.schema import Shape, fit
from orchestrator.config.values import ConfigValue, parse_scalar, text_of
from orchestrator.config.yaml_document import Document, Problem, as_lines, read_document

OPTIONS_FILE = "options.yaml"

Kind = Literal["int", "float", "bool", "str"]

_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


class UnfitError(ValueError):
    """A key or a value that the trainer does not take."""


class UnknownKeyError(UnfitError):
    """A key that the trainer does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What one key of an experiment's configuration may be."""

    kind: Kind
    is_list: bool = False
    choices: tuple[Value, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    decides_numbers: bool = True
    """Whether a result depends on it; what does not is in no configuration's hash."""

    def fitted(self, value: object) -> ConfigValue:
        """`value` in the option's type: 1 for a float becomes 1.0. UnfitError says what may be."""
        if not self.is_list:
            return self._fitted_item(value)
        if not isinstance(value, list):
            raise UnfitError(f"must be a list, not {value!r}")
        return [self._fitted_item(item) for item in value]

    def _fitted_item(self, value: object) -> Value:
        typed = _as_kind(self.kind, value)
        names = [text_of(choice) for choice in self.choices]
        if names and text_of(typed) not in names:
            near = did_you_mean(text_of(typed), names)
            raise UnfitError(f"{text_of(typed)!r} is no choice{near}; choices: {listed(names)}")
        if isinstance(typed, int | float):
            self._refuse_out_of_range(typed)
        return typed

    def _refuse_out_of_range(self, value: float) -> None:
        if self.minimum is not None and value < self.minimum:
            raise UnfitError(f"must be at least {text_of(self.minimum)}, not {text_of(value)}")
        if self.maximum is not None and value > self.maximum:
            raise UnfitError(f"must be at most {text_of(self.maximum)}, not {text_of(value)}")


@dataclass(frozen=True, slots=True)
class Options:
    """All options of one experiment."""

    experiment: str
    by_name: Mapping[str, Option]
    defaults: Mapping[str, ConfigValue]

    @property
    def free_keys(self) -> tuple[str, ...]:
        """The options on which no number depends."""
        return tuple(key for key, option in self.by_name.items() if not option.decides_numbers)

    def check_key(self, key: str) -> None:
        """UnknownKeyError unless there is an option `key`."""
        if key not in self.by_name:
            raise UnknownKeyError(
                f"experiment {self.experiment!r} has no option {key!r}{hint(key, self.by_name)}"
            )

    def fitted(self, key: str, value: object) -> ConfigValue:
        """`value` as the option `key` takes it. UnfitError for an unknown key or a bad value."""
        self.check_key(key)
        return self.by_name[key].fitted(value)

    def parsed(self, key: str, text: str) -> ConfigValue:
        """What `text`, typed in a shell, stands for: text needs no quotes, a list no brackets."""
        option = self.by_name[key]
        if option.is_list:
            return [_parsed(option.kind, part.strip()) for part in text.strip("[]").split(",")]
        return _parsed(option.kind, text)


def experiment_names(experiments: Path) -> list[str]:
    """The experiments that the folder `experiments` offers, sorted."""
    return sorted(path.parent.name for path in experiments.glob(f"*/{OPTIONS_FILE}"))


def read_options(experiments: Path, experiment: str) -> Options:
    """The options of `experiment`. StudyError, with all problems, where its file is wrong."""
    document = read_document(experiments / experiment / OPTIONS_FILE)
    problems = list(document.problems)
    options: dict[str, Option] = {}
    defaults: dict[str, ConfigValue] = {}
    for name, data in document.data.items():
        entry, unfit = fit(document, _Entry, data, (name,))
        problems += unfit
        try:
            options[name] = _option(entry)
            defaults[name] = options[name].fitted(entry.default)
        except UnfitError as error:
            problems.append(_entry_problem(document, name, error))
    if problems:
        raise StudyError(str(document.path), as_lines(problems))
    return Options(experiment=experiment, by_name=options, defaults=defaults)


class _Entry(Shape):
    type: str = ""
    default: Any = None
    choices: list[Any] = Field(default_factory=list)
    min: int | float | None = None
    max: int | float | None = None
    decides_numbers: bool = True
    help: str = ""


def _option(entry: _Entry) -> Option:
    kind = entry.type.removeprefix("list[").removesuffix("]")
    is_list = entry.type == f"list[{kind}]"
    if kind not in get_args(Kind) or not (is_list or kind == entry.type):
        raise UnfitError(f"type {entry.type!r} is not int, float, bool, str or list[one of them]")
    return Option(
        kind=cast(Kind, kind),
        is_list=is_list,
        choices=tuple(_as_kind(cast(Kind, kind), choice) for choice in entry.choices),
        minimum=entry.min,
        maximum=entry.max,
        decides_numbers=entry.decides_numbers,
    )


def _entry_problem(document: Document, name: str, error: UnfitError) -> Problem:
    return document.problem((name,), f"type or default: {error}", at_key=True)


def _parsed(kind: Kind, text: str) -> Value:
    # Null and text that stands for another type are refused where the value is fitted.
    value = text if kind == "str" else parse_scalar(text)
    return text if value is None else value


def _as_kind(kind: Kind, value: object) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        raise UnfitError("must be a finite number")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "float" and is_number:
        return float(cast(float, value))
    if kind == "int" and is_number and cast(float, value) == int(cast(float, value)):
        return int(cast(float, value))
    looks_typed = isinstance(value, str) and not isinstance(parse_scalar(value), str)
    quoted = " (without quotes)" if looks_typed else ""
    shown = "null" if value is None else repr(value)
    raise UnfitError(f"must be {_NAMES[kind]}{quoted}, not {shown}")


EXPERIMENTS = Path(__file__).resolve().parent.parent.parent / "experiments"
"""The data plane's folder: its files are read, it is never imported."""
