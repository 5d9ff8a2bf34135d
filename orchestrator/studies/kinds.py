"""Of which type a key of a command's configuration is: as the values that its study gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from merge.records.options import UnfitError, as_kind
from merge.records.sweep import Value
from merge.records.typed_words import Kind, TypingError, typed_list, typed_value
from merge.records.values import ConfigValue


@dataclass(frozen=True, slots=True)
class Form:
    """The type of a key: of a single value, or of the items of a list."""

    kind: Kind | None
    """None: the study mixes types, or gives only null."""
    is_list: bool

    def parsed(self, text: str) -> ConfigValue:
        """The value that `text`, typed in a shell, stands for. UnfitError for another type."""
        if self.kind != "str" and text.strip() in ("null", "~"):
            return None
        if not self.is_list:
            value = typed_value(self.kind, text)
            if value is None:
                raise UnfitError(f"{text!r} is empty: write null where no value is meant")
            return self._fitted(value)
        try:
            items = typed_list(self.kind, text)
        except TypingError as error:
            raise UnfitError(str(error)) from error
        return [self._fitted(item) for item in items]

    def _fitted(self, value: Value) -> Value:
        if self.kind is None:
            return value
        # `lr: 1` in a study is no promise that it is always a whole number.
        is_fraction = isinstance(value, float) and not value.is_integer()
        return as_kind("float" if self.kind == "int" and is_fraction else self.kind, value)


def form_of(values: Sequence[ConfigValue]) -> Form | None:
    """The type that all `values` of one key have; None where they are both lists and not."""
    given = [value for value in values if value is not None]
    if not given or len({isinstance(value, list) for value in given}) > 1:
        return None
    is_list = isinstance(given[0], list)
    items = (item for value in given for item in (value if isinstance(value, list) else [value]))
    kind = _common(_kind(item) for item in items)
    # A single value of mixed types may become a list, too.
    return None if kind is None and not is_list else Form(kind, is_list)


def _kind(value: Value) -> Kind:
    # bool is a subclass of int.
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "float" if isinstance(value, float) else "str"


def _common(kinds: Iterable[Kind]) -> Kind | None:
    found = set(kinds)
    if found == {"int", "float"}:
        return "int"
    return found.pop() if len(found) == 1 else None
