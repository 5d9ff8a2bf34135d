"""Single values of a study: how they are compared and written into a folder name.

How they are read from text is the same for studies and trainers: `merge/records/values.py`.
"""

from __future__ import annotations

import re
from typing import TypeGuard

from merge.records.sweep import Value
from merge.records.typed_words import Kind, typed_value
from merge.records.values import ConfigValue, parse_scalar, text_of

__all__ = [
    "ConfigValue",
    "is_named_by",
    "is_same",
    "is_scalar",
    "parse_scalar",
    "plain_text",
    "slug",
    "text_of",
]

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._+=,@-]+")


def is_scalar(value: object) -> TypeGuard[Value]:
    """Whether `value` is a single value, as on an axis."""
    return isinstance(value, str | int | float)


def is_named_by(value: Value, text: str) -> bool:
    """Whether `text`, as a person writes it, means `value`: `1e-4` means 0.0001, `off` false."""
    if text_of(value) == text:
        return True
    # Text must be equal to the letter, but for quotes around it: `007` does not name `7`.
    kind: Kind | None = "bool" if isinstance(value, bool) else "str"
    named = typed_value(kind if isinstance(value, bool | str) else None, text)
    return named is not None and is_same(value, named)


def is_same(one: ConfigValue, other: ConfigValue) -> bool:
    """Whether two values are one: 1 and 1.0 are, 1 and true and `1` in quotes are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def plain_text(value: ConfigValue) -> str:
    """`text_of`, with one text for numbers that are equal: 1 for 1.0."""
    if isinstance(value, float) and value.is_integer():
        return text_of(int(value))
    return text_of(value)


def slug(value: ConfigValue) -> str:
    """`value` as part of a folder name: unsafe characters become dashes."""
    return _NOT_IN_A_NAME.sub("-", text_of(value))
