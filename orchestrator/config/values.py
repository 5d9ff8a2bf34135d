"""Single values of a study: how they are read from text, compared and written into a folder name.

The rules are YAML 1.2's, without YAML 1.1's surprises: `on`, `no` and `2024-01-31` are text, `1e-4`
is a number, and a number with a leading zero (`007`) stays the text that it is.
"""

from __future__ import annotations

import re
from typing import TypeGuard

from merge.records.sweep import Value

ConfigValue = Value | None | list[Value]
"""A value of a configuration: one value, null, or a list of values."""

_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._+=,@-]+")


def parse_scalar(text: str) -> Value | None:
    """The value of the plain (unquoted) YAML scalar `text`."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not text.lstrip("+-").isdigit():
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def text_of(value: ConfigValue) -> str:
    """`value` as text: in a filter, in a command, as a key of the results."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(text_of(item) for item in value) + "]"
    return str(value)


def is_scalar(value: object) -> TypeGuard[Value]:
    """Whether `value` is a single value, as on an axis."""
    return isinstance(value, str | int | float)


def is_named_by(value: Value, text: str) -> bool:
    """Whether `text`, as a person writes it, means `value`: `1e-4` means 0.0001."""
    if text_of(value) == text:
        return True
    if isinstance(value, bool | str):
        return False
    named = parse_scalar(text)
    return isinstance(named, int | float) and not isinstance(named, bool) and named == value


def slug(value: ConfigValue) -> str:
    """`value` as part of a folder name: unsafe characters become dashes."""
    return _NOT_IN_A_NAME.sub("-", text_of(value))
