"""Single values of a study: how they are compared and written into a folder name.

How they are read from text is the same for studies and trainers: `merge/records/values.py`.
"""

from __future__ import annotations

import re
from typing import TypeGuard

from merge.records.sweep import Value
from merge.records.values import ConfigValue, parse_scalar, text_of

__all__ = ["ConfigValue", "is_named_by", "is_scalar", "parse_scalar", "slug", "text_of"]

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._+=,@-]+")


def is_scalar(value: object) -> TypeGuard[Value]:
    """Whether `value` is a single value, as on an axis."""
    return isinstance(value, str | int | float)


def is_named_by(value: Value, text: str) -> bool:
    """Whether `text`, as a person writes it, means `value`: `1e-4` means 0.0001."""
    if text_of(value) == text:
        return True
    # Text must be equal to the letter: `007` does not name `7`.
    if isinstance(value, bool | str):
        return False
    named = parse_scalar(text)
    return isinstance(named, int | float) and not isinstance(named, bool) and named == value


def slug(value: ConfigValue) -> str:
    """`value` as part of a folder name: unsafe characters become dashes."""
    return _NOT_IN_A_NAME.sub("-", text_of(value))
