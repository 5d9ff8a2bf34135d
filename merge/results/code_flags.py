"""Flags of code: runs of one table, or of one pair, that were made by other code. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from merge.records.code import CODE_KEYS, changes_text, code_text
from merge.records.sweep import Run
from merge.results.entries import Entry
from merge.results.flags import Flag, differing, text_of

ONE_CODE = "one code"
_TRAITS = tuple(f"code.{key}" for key in CODE_KEYS)


def code_differences(known: Mapping[str, Entry]) -> list[Flag]:
    """Flags of the code of runs, by name: what differs between those that may not be mixed."""
    codes = {name: code_of(entry) for name, entry in known.items()}
    flags = [
        flag
        for key in ("source", "version")
        for flag in differing(f"code.{key}", {n: text_of(c.get(key)) for n, c in codes.items()})
    ]
    return flags + _commits(codes) + _changes(codes)


def table_flags(pairs: Sequence[tuple[Run, Entry]]) -> list[Flag]:
    """Flags of code over all cells of a table; the names in them are those of cells."""
    # The usual case, and a pass over 10,000 results: all are of one code.
    codes = [tuple(map(entry.traits.get, _TRAITS)) for _, entry in pairs]
    if codes.count(codes[0] if codes else ()) == len(codes):
        return []
    known = {run.run_id: entry for run, entry in pairs if not entry.is_legacy}
    cell_of = {run.run_id: run.cell for run, _ in pairs if run.run_id in known}
    flags = [_by_cell(flag, cell_of) for flag in code_differences(known)]
    # Where every cell holds every value, as within a single cell, the flags of the cells say it.
    return [flag for flag in flags if len(set(map(tuple, flag["runs"].values()))) > 1]


def pair_differences(first: Entry, second: Entry) -> list[str]:
    """What differs in the code of two runs that are compared, a text each."""
    pair = {"first": first, "second": second}
    lines = []
    for flag in code_differences(pair):
        one, other = flag["runs"]
        lines.append(f"{flag['differs']} differs: {one} and {other}")
    for entry in pair.values():
        if entry.earlier_code:
            lines.append(f"code of attempts of {entry.run_id}: {earlier_code_text(entry)}")
    return lines


def code_of(entry: Entry) -> dict[str, Any]:
    """The code version of the attempt that finished a run, as far as a merged view keeps it."""
    return {key: entry.traits.get(f"code.{key}") for key in CODE_KEYS}


def earlier_code_text(entry: Entry) -> str:
    """`attempt 1: source 1f2e, ...; attempt 2: source 9a8b, ...`; `one code` where there is one."""
    if not entry.earlier_code:
        return ONE_CODE
    parts = [
        f"{_attempts(code['attempts'])}: {code_text(code)}"
        for code in (*entry.earlier_code, {"attempts": [entry.attempt], **code_of(entry)})
    ]
    return "; ".join(parts)


def _attempts(numbers: list[int]) -> str:
    noun = "attempt" if len(numbers) == 1 else "attempts"
    return f"{noun} {', '.join(map(str, numbers))}"


def _commits(codes: Mapping[str, Mapping[str, Any]]) -> list[Flag]:
    """Commits differ harmlessly where a digest says that the sources are equal."""
    if all(code.get("source") is not None for code in codes.values()):
        return []
    return differing("code.git_commit", {n: _commit_text(code) for n, code in codes.items()})


def _commit_text(code: Mapping[str, Any]) -> str:
    return text_of(code.get("git_commit")) + (" with changes" if code.get("git_dirty") else "")


def _changes(codes: Mapping[str, Mapping[str, Any]]) -> list[Flag]:
    """Uncommitted changes that differ at one commit, where the digest of the sources is equal.

    They lie in files that the digest does not cover.
    """
    if all(code.get("git_diff") is None for code in codes.values()):
        return []
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for name, code in codes.items():
        key = tuple(text_of(code.get(each)) for each in ("source", "version", "git_commit"))
        groups.setdefault(key, {})[name] = changes_text(code).strip() or "as committed"
    return [flag for texts in groups.values() for flag in differing("code.git_diff", texts)]


def _by_cell(flag: Flag, cell_of: Mapping[str, str]) -> Flag:
    runs = {
        value: list(dict.fromkeys(cell_of[run_id] for run_id in run_ids))
        for value, run_ids in flag["runs"].items()
    }
    return {**flag, "runs": runs}
