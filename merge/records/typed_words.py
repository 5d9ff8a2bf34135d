"""Values as a person types them in a shell: text needs no quotes, a list no brackets.

What does not fit its kind is left as it was typed: the check that follows refuses it by that text.
"""

from __future__ import annotations

import re
from typing import Literal

from merge.records.sweep import Value
from merge.records.values import ConfigValue, parse_scalar

Kind = Literal["int", "float", "bool", "str"]

_BOOLS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'"
_PLAIN = r"[^,\[\]{}\"'\s][^,\[\]{}]*?"
_ITEM = re.compile(rf"\s*({_QUOTED}|{_PLAIN})\s*(,|$)")
_WHOLE_QUOTED = re.compile(_QUOTED)


class TypingError(ValueError):
    """What was typed is neither a single value nor a list of them."""


def typed_value(kind: Kind | None, text: str) -> Value | None:
    """The single value that `text` stands for; `kind` None: what it would be in a study."""
    if _WHOLE_QUOTED.fullmatch(text):
        return _unquoted(text)
    if kind == "str":
        return text
    if kind == "bool" and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    return parse_scalar(text)


def typed_list(kind: Kind | None, text: str) -> list[Value]:
    """The items of a list, with or without its brackets. TypingError where they do not match."""
    inner = text.strip()
    if inner.startswith("[") != inner.endswith("]") or inner == "[":
        raise TypingError("the brackets of the list do not match: write [a, b] or a,b")
    if inner.startswith("["):
        inner = inner[1:-1]
        if not inner.strip():
            return []
    # No list holds null: it stays the word that it is.
    return [_or_text(typed_value(kind, item), item) for item in _split(inner)]


def typed_any(text: str) -> ConfigValue:
    """The value or list that `text` would be in a study, where nothing says which kind it is."""
    begin = text.strip()[:1]
    if not begin:
        raise TypingError(f"{text!r} is empty: write null where no value is meant, '' for no text")
    if begin == "{":
        raise TypingError("a mapping is no value of a configuration: name one key for each value")
    return typed_list(None, text) if begin == "[" else typed_value(None, text)


def _or_text(value: Value | None, text: str) -> Value:
    return text if value is None else value


def _split(inner: str) -> list[str]:
    items, position = [], 0
    while True:
        match = _ITEM.match(inner, position)
        if match is None:
            raise TypingError(
                "an item of the list is empty, or holds one of , [ ] { } without quotes around it"
            )
        items.append(match[1])
        position = match.end()
        if not match[2]:
            return items


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    if text[0] == "'":
        return inner.replace("''", "'")
    # Any other backslash is the text's own, as in the path "C:\data".
    return re.sub(r'\\(["\\])', r"\1", inner)
