"""Single values as text: how a person's text becomes a value, and how a value is written.

The rules are YAML 1.2's, without YAML 1.1's surprises: `on`, `no` and `2024-01-31` are text, `1e-4`
is a number, and a number with a leading zero (`007`) stays the text that it is.
"""

from __future__ import annotations

import re

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
# At most 100 digits: int() raises ValueError for more than 4,300.
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def parse_scalar(text: str) -> Value | None:
    """The value of the plain (unquoted) YAML scalar `text`."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    # Digits alone that are no integer by the rule above have a leading zero: text.
    if _FLOAT.fullmatch(text) and not text.lstrip("+-").isdigit():
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        # `.inf` of YAML is `inf` for Python; callers refuse it with a message.
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
