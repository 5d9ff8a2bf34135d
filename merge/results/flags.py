"""A flag: what differs between runs that stand together, and which runs have which value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from merge.storage.json_files import Json, canonical_json

NOT_RECORDED = "not recorded"
_MOST_NAMED = 4

Flag = dict[str, Any]


def differing(what: str, texts: Mapping[str, str]) -> list[Flag]:
    """A flag where `texts`, by run, are not all equal; else none."""
    return [grouped(what, texts)] if len(set(texts.values())) > 1 else []


def grouped(what: str, texts: Mapping[str, str]) -> Flag:
    """The flag `what`, with the runs that have each of `texts`."""
    groups: dict[str, list[str]] = {}
    for name, text in texts.items():
        groups.setdefault(text, []).append(name)
    return {"differs": what, "runs": groups}


def text_of(value: object) -> str:
    """A trait's value as a flag shows it."""
    if value is None:
        return NOT_RECORDED
    return value if isinstance(value, str) else canonical_json(cast(Json, value)).decode()


def flag_kind(flag: Mapping[str, Any]) -> str:
    """What is said before the text of a flag."""
    return str(flag.get("kind", "not comparable"))


def flag_text(flag: Mapping[str, Any]) -> str:
    """A flag as one line: `details.protocol differs between 0/1 (bam) and 2 (hsnet)`."""
    groups = [f"{'/'.join(names)} ({value})" for value, names in flag["runs"].items()]
    if "says" in flag:
        return f"{flag['says']}: {', '.join(groups)}"
    between = "differs between" if len(groups) > 1 else "is flagged for"
    return f"{flag['differs']} {between} {' and '.join(groups)}"


def flag_lines(document: Mapping[str, Any]) -> list[str]:
    """A line for each flag in a merged view, those of single cells first."""
    cells = [
        f"{flag_kind(flag)}: {cell}: {flag_text(flag)}"
        for cell, view in document["results"].items()
        for flag in view.get("flags", ())
    ]
    # Views of older versions have none of the whole table.
    table = [_shortened(flag) for flag in document.get("flags", ())]
    return cells + [f"{flag_kind(f)}: cells of this table: {flag_text(f)}" for f in table]


def _shortened(flag: Flag) -> Flag:
    """`flag` with the first of many cells in each group."""
    return {**flag, "runs": {value: _some(names) for value, names in flag["runs"].items()}}


def _some(names: list[str]) -> list[str]:
    more = len(names) - _MOST_NAMED
    return names if more <= 1 else [*names[:_MOST_NAMED], f"{more} more"]
