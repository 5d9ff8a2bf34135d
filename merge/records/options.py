"""The options of an experiment and the one check of their values.

The control plane reads them from an experiment's `options.yaml`, a trainer from the dataclass that
the file is generated from. Both hold a value to the same rules here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from merge.records.sweep import Value
from merge.records.typed_words import Kind, TypingError, typed_list, typed_value
from merge.records.values import ConfigValue, parse_scalar, text_of
from merge.wording import did_you_mean, hint, listed

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
    """Whether a result depends on it. An option that decides no number is left out of every
    configuration's hash, so it may change under a sweep that has begun."""
    is_test_setting: bool = False
    """Whether a finished training may be evaluated again under another value."""

    @property
    def type(self) -> str:
        """The type as `options.yaml` writes it, such as `list[int]`."""
        return f"list[{self.kind}]" if self.is_list else self.kind

    def fitted(self, value: object) -> ConfigValue:
        """`value` in the option's type: 1 for a float becomes 1.0. UnfitError says what may be."""
        if not self.is_list:
            return self._fitted_item(value)
        if not isinstance(value, list):
            raise UnfitError(f"must be a list, not {value!r}")
        return [self._fitted_item(item) for item in value]

    def _fitted_item(self, value: object) -> Value:
        typed = as_kind(self.kind, value)
        names = [text_of(choice) for choice in self.choices]
        if names and text_of(typed) not in names:
            near = did_you_mean(text_of(typed), names)
            raise UnfitError(f"{text_of(typed)!r} is not a choice{near}; choices: {listed(names)}")
        # bool is an int to Python, but no option of kind bool has a range.
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

    @property
    def test_settings(self) -> tuple[str, ...]:
        """The options that a finished training may be tested under anew."""
        return tuple(key for key, option in self.by_name.items() if option.is_test_setting)

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

    def fitted_all(self, values: Mapping[str, object]) -> dict[str, ConfigValue]:
        """All `values`, fitted. UnfitError lists every problem, each with its option."""
        fitted, problems = {}, []
        for key, value in values.items():
            try:
                fitted[key] = self.fitted(key, value)
            except UnknownKeyError as error:
                problems.append(str(error))
            except UnfitError as error:
                problems.append(f"option {key!r}: {error}")
        if problems:
            raise UnfitError("; ".join(problems))
        return fitted

    def parsed(self, key: str, text: str) -> ConfigValue:
        """What `text`, typed in a shell, stands for. UnfitError where a list is not well-formed."""
        option = self.by_name[key]
        try:
            if option.is_list:
                return [*typed_list(option.kind, text)]
        except TypingError as error:
            raise UnfitError(str(error)) from error
        value = typed_value(option.kind, text)
        return text if value is None else value


def option_from_entry(entry: Mapping[str, Any]) -> Option:
    """An entry of `options.yaml`, whose keys have their types already. UnfitError: its `type`."""
    given = entry["type"]
    kind = given.removeprefix("list[").removesuffix("]")
    is_list = given == f"list[{kind}]"
    if kind not in get_args(Kind) or not (is_list or kind == given):
        raise UnfitError(f"type {given!r} is not int, float, bool, str or list[one of them]")
    return Option(
        kind=cast(Kind, kind),
        is_list=is_list,
        choices=tuple(as_kind(cast(Kind, kind), choice) for choice in entry["choices"]),
        minimum=entry["min"],
        maximum=entry["max"],
        decides_numbers=entry["decides_numbers"],
        is_test_setting=entry["test_setting"],
    )


def as_kind(kind: Kind, value: object) -> Value:
    """`value` as `kind`; a whole float is an int and an int a float. UnfitError otherwise."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UnfitError("must be a finite number")
    # bool is a subclass of int: `epochs: true` would be one epoch.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "float" and is_number:
        return float(cast(float, value))
    # YAML and a shell may write a whole number as 1e4 or 8.0.
    if kind == "int" and is_number and cast(float, value) == int(cast(float, value)):
        return int(cast(float, value))
    # `"8"` in a study is text on purpose: the message says that the quotes are the reason.
    looks_typed = isinstance(value, str) and not isinstance(parse_scalar(value), str)
    quoted = " (without quotes)" if looks_typed else ""
    shown = "null" if value is None else repr(value)
    raise UnfitError(f"must be {_NAMES[kind]}{quoted}, not {shown}")
