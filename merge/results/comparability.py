"""Which runs may not stand in one mean, and exactly why: flags of cells.

A flag names what differs and which runs have which value. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from merge.records.manifest import BATCH_NORM_ITEMS, SharedTestList
from merge.records.sweep import Run
from merge.results.code_flags import code_differences, earlier_code_text
from merge.results.entries import Entry
from merge.results.flags import NOT_RECORDED, Flag, differing, grouped, text_of
from merge.storage.json_files import canonical_json

NO_DEVIATION = "as configured"


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
        return flags + _of_attempts(known) + _deviations(known)
    flags += code_differences(known)
    for trait in (f"details.{name}" for name in equal_details):
        flags += differing(trait, {n: text_of(e.traits.get(trait)) for n, e in known.items()})
    flags += differing("details.torch_major", {n: _torch_major(e) for n, e in known.items()})
    flags += _batch_norm(known)
    return flags + _of_attempts(known) + _deviations(known)


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
        groups.setdefault(key, []).append((run, text_of(value)))
    flags: dict[str, list[Flag]] = {}
    for group in groups.values():
        if any(text != group[0][1] for _, text in group):
            flag = differing(trait, {r.run_id: text for r, text in group})
            for cell in dict.fromkeys(run.cell for run, _ in group):
                flags.setdefault(cell, []).extend(flag)
    return flags


def _origin(counted: Mapping[str, Entry]) -> list[Flag]:
    if not any(entry.is_legacy for entry in counted.values()):
        return []
    return [
        grouped(
            "origin",
            {
                name: "legacy: no configuration hash"
                if entry.is_legacy
                else "with configuration hash"
                for name, entry in counted.items()
            },
        )
    ]


def _of_attempts(known: Mapping[str, Entry]) -> list[Flag]:
    """Runs that one code began and another one finished, also where all of a cell did so."""
    if not any(entry.earlier_code for entry in known.values()):
        return []
    texts = {name: earlier_code_text(entry) for name, entry in known.items()}
    return [grouped("code of attempts", texts)]


def _deviations(known: Mapping[str, Entry]) -> list[Flag]:
    if not any(entry.deviations for entry in known.values()):
        return []
    texts = {name: deviations_text(entry.deviations) for name, entry in known.items()}
    return [grouped("deviations", texts)]


def deviations_text(deviations: Mapping[str, Any]) -> str:
    """`micro_batch 8 -> 4 (cuda_oom)`; `as configured` where there is none."""
    texts = []
    for key in sorted(deviations):
        entry = deviations[key]
        if isinstance(entry, dict) and {"planned", "used"} <= entry.keys():
            cause = f" ({entry['cause']})" if entry.get("cause") else ""
            effect = ", which changes the number" if entry.get("changes_number") else ""
            used = f"{text_of(entry['planned'])} -> {text_of(entry['used'])}"
            texts.append(f"{key} {used}{cause}{effect}")
        else:
            texts.append(f"{key} {text_of(entry)}")
    return ", ".join(texts) or NO_DEVIATION


def _batch_norm(known: Mapping[str, Entry]) -> list[Flag]:
    """Statistics over micro-batches, or ranks' shares, of different sizes: another training."""
    trait = f"details.{BATCH_NORM_ITEMS}"
    return differing(trait, {n: text_of(e.traits.get(trait)) for n, e in known.items()})


def _torch_major(entry: Entry) -> str:
    version = entry.traits.get("details.torch")
    return NOT_RECORDED if version is None else str(version).partition(".")[0]
