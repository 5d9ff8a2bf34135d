"""A short `repr` for records that hold much: a notebook prints whatever a cell ends with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields

_LONGEST = 60


class ShortRepr:
    """Base of a dataclass with `repr=False`: sizes in place of long values, defaults left out."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_shown(self))})"


def _shown(record: object) -> Iterator[str]:
    for each in fields(record):  # type: ignore[arg-type]
        value = getattr(record, each.name)
        if each.repr and not _is_default(each, value):
            yield f"{each.name}={_short(value)}"


def _is_default(each: Field[object], value: object) -> bool:
    if each.default_factory is not MISSING:
        return bool(value == each.default_factory())
    return each.default is not MISSING and bool(value == each.default)


def _short(value: object) -> str:
    text = repr(value)
    if len(text) <= _LONGEST:
        return text
    if isinstance(value, str):
        return f"{text[:_LONGEST]}...{text[0]}"
    if isinstance(value, Mapping | Sequence):
        return f"<{len(value)} of them>"
    return text if isinstance(value, ShortRepr) else f"{type(value).__name__}(...)"
