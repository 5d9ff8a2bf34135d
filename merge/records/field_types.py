"""Whether what was read into a record's fields has the types that its class gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from merge.errors import RecordError

# `get_type_hints` evaluates every annotation: done once a class, not once a record.
_KNOWN: dict[type, Mapping[str, tuple[type, ...]]] = {}


def check_types(record: object) -> None:
    """TypeError, with the field's name, unless all fields of a dataclass have their types.

    An int is a float, a bool neither; in mappings and tuples nothing is looked at.
    """
    for name, kinds in _kinds(type(record)).items():
        value = getattr(record, name)
        # bool is a subclass of int, so `true` would pass for a number of seconds.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TypeError(f"{name} is {value!r}")
        if is_dataclass(value):
            check_types(value)


def _kinds(record: type) -> Mapping[str, tuple[type, ...]]:
    if record not in _KNOWN:
        _KNOWN[record] = {name: _classes(hint) for name, hint in get_type_hints(record).items()}
    return _KNOWN[record]


def _classes(hint: type[Any] | None) -> tuple[type, ...]:
    if hint is None or hint is NoneType:
        return (NoneType,)
    if hint is float:
        return (float, int)
    origin = get_origin(hint)
    if origin is None:
        return (hint,)
    # `tuple[str, ...]` is checked as a tuple: what is in it is not looked at.
    if isinstance(origin, type) and not issubclass(origin, UnionType):
        return (origin,)
    return tuple(kind for part in get_args(hint) for kind in _classes(part))


def without_schema(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record that was read."""
    fields = dict(document)
    fields.pop("schema", None)
    return fields


def malformed(path: Path | str, error: Exception) -> RecordError:
    """The error for a record whose fields are missing, too many or of other types."""
    return RecordError(f"{path} is not a record of this version ({error})")
