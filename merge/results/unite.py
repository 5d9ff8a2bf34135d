"""The union of several inputs: idempotent, commutative, associative. Pure.

Nothing is dropped: different results of one run all stay. Which of them counts is decided later,
from the whole set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from merge.errors import ConfigChangedError, IncompleteError
from merge.records.plan_diff import plan_differences, shortened
from merge.records.result import Result
from merge.records.sweep import Run, Sweep
from merge.results.entries import Entry, Problem, entry_of, unique_entries, unique_problems
from merge.results.legacy import LegacyEntry
from merge.results.usable import split_usable
from merge.storage.json_files import canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one input holds, or several together."""

    sweep: Sweep | None
    """None where the input carries no plan: legacy files, a run's folder alone."""
    entries: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    """Results by run id."""
    unread: Sequence[Result] = ()
    """Of runs whose input carries no plan: another input's plan says what is kept of them."""
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Configurations of runs whose input carries no plan."""
    legacy: Sequence[LegacyEntry] = ()
    problems: Sequence[Problem] = ()
    """What could not be used."""
    aside: Sequence[Problem] = ()
    """Second results that were kept aside when they came: never counted."""
    notes: Sequence[str] = ()
    """What a person should know about the input; not part of any view."""
    num_read: int = 0
    """Result files that had to be read."""
    unfinished: Sequence[Path] = ()
    """Folders of runs that hold files whose writing was not finished."""


def unite(inputs: Mapping[str, Contribution]) -> Contribution:
    """All that `inputs` (by name) contribute together.

    ConfigChangedError, with the differing keys and their values, where plans differ;
    IncompleteError where results have no plan at all.
    """
    sweep = common_sweep(inputs)
    # Sorted by name: notes keep this order, everything else is ordered by content.
    parts = [with_plan(name, inputs[name], sweep) for name in sorted(inputs)]
    entries: dict[str, list[Entry]] = {}
    for part in parts:
        for run_id, found in part.entries.items():
            entries.setdefault(run_id, []).extend(found)
    return Contribution(
        sweep=sweep,
        entries={run_id: unique_entries(found) for run_id, found in entries.items()},
        legacy=_unique_legacy([entry for part in parts for entry in part.legacy]),
        problems=unique_problems(problem for part in parts for problem in part.problems),
        aside=unique_problems(problem for part in parts for problem in part.aside),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        num_read=sum(part.num_read for part in parts),
    )


def common_sweep(inputs: Mapping[str, Contribution]) -> Sweep | None:
    """The plan that `inputs` share; None where none carries one, ConfigChangedError for two."""
    planned = {name: part.sweep for name, part in inputs.items() if part.sweep is not None}
    if not planned:
        return None
    names = sorted(planned)
    first = planned[names[0]]
    chosen = first
    for name in names[1:]:
        other = planned[name]
        # Equal plans are the rule, and comparing objects is far cheaper than looking for
        # differences.
        if other == chosen:
            continue
        differences = plan_differences(first, other)
        if differences:
            lines = [f"  {line}" for line in shortened(differences)]
            raise ConfigChangedError(
                "\n".join(
                    [
                        f"{names[0]} and {name} hold different plans of study {first.study!r}; "
                        f"{names[0]} -> {name}:",
                        *lines,
                        "Their numbers cannot stand in one table: merge them separately.",
                    ]
                )
            )
        # Equal in what decides numbers; of the rest (title, code...) one is taken, in any order.
        chosen = min(chosen, other, key=lambda sweep: canonical_json(sweep.to_json()))
    return chosen


def with_plan(name: str, part: Contribution, sweep: Sweep | None) -> Contribution:
    """`part`, its results without a plan read as that of another input says.

    IncompleteError where no input has one, ConfigChangedError where theirs is of another sweep.
    """
    if not part.unread:
        return part
    if sweep is None:
        raise IncompleteError(
            f"{name} is the folder of a run whose sweep is unknown: name its output folder, or "
            f"another folder or merged file of the same sweep, beside it"
        )
    runs = {run.run_id: run for run in sweep.runs}
    for result in part.unread:
        run = runs.get(result.run_id)
        # A folder named by hand: refused, not skipped, or its numbers would be missing without a
        # message.
        if run is None:
            raise ConfigChangedError(
                f"{name} is of run {result.run_id}, which study {sweep.study!r} does not have: "
                f"merge it separately"
            )
        if result.config_hash != run.config_hash:
            differences = _config_differences(run, part.configs.get(run.run_id, {}))
            raise ConfigChangedError(
                f"{name} has another configuration than {run.run_id} in study {sweep.study!r} "
                f"({differences}): merge it separately"
            )
    manifest = sweep.manifest
    read = (entry_of(result, manifest) for result in part.unread)
    usable, problems = split_usable(read, manifest)
    return replace(
        part,
        entries={**part.entries, **{entry.run_id: (entry,) for entry in usable}},
        problems=(*part.problems, *problems),
        unread=(),
    )


def _config_differences(run: Run, config: Mapping[str, Any]) -> str:
    keys = [key for key in {**run.config, **config} if run.config.get(key) != config.get(key)]
    return ", ".join(
        f"{key}: {run.config.get(key, 'absent')} -> {config.get(key, 'absent')}" for key in keys
    )


def _unique_legacy(entries: Sequence[LegacyEntry]) -> list[LegacyEntry]:
    by_content = {canonical_json(entry.to_json()): entry for entry in entries}
    return [by_content[key] for key in sorted(by_content)]
