"""Which runs may not stand in one mean, and exactly why: flags of cells.

A flag names what differs and which runs have which value. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from merge.records.manifest import SharedTestList
from merge.records.sweep import Run
from merge.results.entries import Entry
from merge.storage.json_files import Json, canonical_json

_EQUAL_CODE = ("code.source", "code.version")
"""Must be equal in all runs of a cell, of any experiment."""

NOT_RECORDED = "not recorded"
NO_DEVIATION = "as configured"

Flag = dict[str, Any]


def flags_of_cell(counted: Mapping[str, Entry], equal_details: Sequence[str]) -> list[Flag]:
    """Flags of the runs of a cell, named by their value of the averaged axis.

    `equal_details` must be equal in all of them for their mean to mean something.
    """
    flags = _origin(counted)
    # A legacy number has no traits: `origin` flags it once, instead of once for each trait.
    known = {name: entry for name, entry in counted.items() if not entry.is_legacy}
    entries = list(known.values())
    # The usual case: one comparison a run instead of one for each trait.
    if all(entry.traits == entries[0].traits for entry in entries[1:]):
        return flags + _deviations(known)
    for trait in (*_EQUAL_CODE, *(f"details.{name}" for name in equal_details)):
        flags += _differing(trait, {n: _text(e.traits.get(trait)) for n, e in known.items()})
    flags += _differing("details.torch_major", {n: _torch_major(e) for n, e in known.items()})
    flags += _commits(known)
    return flags + _deviations(known)


def test_list_flags(
    pairs: Iterable[tuple[Run, Entry]], shared: SharedTestList | None
) -> dict[str, list[Flag]]:
    """Flags by cell: runs that should be tested on one list of items, and were not.

    Lists may differ between data sets, for example, but not between seeds or methods.
    """
    if shared is None:
        return {}
    trait = f"details.{shared.hash}"
    # Runs without the trait stay in: a list that one run recorded and another did not is a
    # difference.
    listed = [(run, entry.traits.get(trait)) for run, entry in pairs if not entry.is_legacy]
    # Results of a version that recorded no list cannot be judged.
    if all(value is None for _, value in listed):
        return {}
    groups: dict[bytes, list[tuple[Run, str]]] = {}
    for run, value in listed:
        key = canonical_json([run.config.get(name) for name in shared.decided_by])
        groups.setdefault(key, []).append((run, _text(value)))
    flags: dict[str, list[Flag]] = {}
    for group in groups.values():
        if any(text != group[0][1] for _, text in group):
            flag = _differing(trait, {r.run_id: text for r, text in group})
            for cell in dict.fromkeys(run.cell for run, _ in group):
                flags.setdefault(cell, []).extend(flag)
    return flags


def flag_kind(flag: Mapping[str, Any]) -> str:
    """What is said before the text of a flag."""
    return str(flag.get("kind", "not comparable"))


def flag_text(flag: Mapping[str, Any]) -> str:
    """A flag as one line: `details.protocol differs between 0/1 (bam) and 2 (hsnet)`."""
    groups = [f"{'/'.join(runs)} ({value})" for value, runs in flag["runs"].items()]
    if "says" in flag:
        return f"{flag['says']}: {', '.join(groups)}"
    between = "differs between" if len(groups) > 1 else "is flagged for"
    return f"{flag['differs']} {between} {' and '.join(groups)}"


def _origin(counted: Mapping[str, Entry]) -> list[Flag]:
    if not any(entry.is_legacy for entry in counted.values()):
        return []
    return [
        _grouped(
            "origin",
            {
                name: "legacy: no configuration hash"
                if entry.is_legacy
                else "with configuration hash"
                for name, entry in counted.items()
            },
        )
    ]


def _deviations(known: Mapping[str, Entry]) -> list[Flag]:
    if not any(entry.deviations for entry in known.values()):
        return []
    texts = {name: deviations_text(entry.deviations) for name, entry in known.items()}
    return [_grouped("deviations", texts)]


def deviations_text(deviations: Mapping[str, Any]) -> str:
    """`micro_batch 8 -> 4 (cuda_oom)`; `as configured` where there is none."""
    texts = []
    for key in sorted(deviations):
        entry = deviations[key]
        if isinstance(entry, dict) and {"planned", "used"} <= entry.keys():
            cause = f" ({entry['cause']})" if entry.get("cause") else ""
            texts.append(f"{key} {_text(entry['planned'])} -> {_text(entry['used'])}{cause}")
        else:
            texts.append(f"{key} {_text(entry)}")
    return ", ".join(texts) or NO_DEVIATION


def _torch_major(entry: Entry) -> str:
    version = entry.traits.get("details.torch")
    return NOT_RECORDED if version is None else str(version).partition(".")[0]


def _commits(known: Mapping[str, Entry]) -> list[Flag]:
    """Commits differ harmlessly where a digest says that the sources are equal."""
    if all(entry.traits.get("code.source") is not None for entry in known.values()):
        return []
    texts = {
        name: _text(entry.traits.get("code.git_commit"))
        + (" with changes" if entry.traits.get("code.git_dirty") else "")
        for name, entry in known.items()
    }
    return _differing("code.git_commit", texts)


def _differing(what: str, texts: Mapping[str, str]) -> list[Flag]:
    return [_grouped(what, texts)] if len(set(texts.values())) > 1 else []


def _grouped(what: str, texts: Mapping[str, str]) -> Flag:
    groups: dict[str, list[str]] = {}
    for name, text in texts.items():
        groups.setdefault(text, []).append(name)
    return {"differs": what, "runs": groups}


def _text(value: object) -> str:
    if value is None:
        return NOT_RECORDED
    return value if isinstance(value, str) else canonical_json(cast(Json, value)).decode()


def all_flags(results: Mapping[str, Mapping[str, Any]]) -> Sequence[tuple[str, Flag]]:
    """Every flag in the `results` of a merged view, with its cell."""
    return [(cell, flag) for cell, view in results.items() for flag in view.get("flags", ())]
