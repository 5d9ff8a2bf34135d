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
from merge.records.plan_changes import plan_changes, refuse_changes
from merge.records.plan_union import common_plan, uneven_cells
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
    evaluations: Mapping[str, Contribution] = field(default_factory=dict)
    """The trainings of an output folder, tested again under other settings; by name."""


def unite(inputs: Mapping[str, Contribution]) -> Contribution:
    """All that `inputs` (by name) contribute together.

    ConfigChangedError, with the runs and what differs, where plans disagree on a run;
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
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes))
        + _uneven(sweep, parts),
        num_read=sum(part.num_read for part in parts),
        evaluations={
            evaluation: unite(found) for evaluation, found in evaluations_of(inputs).items()
        },
    )


def evaluations_of(inputs: Mapping[str, Contribution]) -> dict[str, dict[str, Contribution]]:
    """What `inputs` (by name) contribute to each evaluation, by the evaluation's name."""
    names = sorted({name for part in inputs.values() for name in part.evaluations})
    return {
        name: {
            f"{source}/{name}": part.evaluations[name]
            for source, part in inputs.items()
            if name in part.evaluations
        }
        for name in names
    }


def _uneven(common: Sweep | None, parts: Sequence[Contribution]) -> tuple[str, ...]:
    """A note where the cells of parts that were planned apart are means over different runs."""
    plans = [part.sweep for part in parts if part.sweep is not None]
    if common is None or not any(plan.growth or plan.runs != common.runs for plan in plans):
        return ()
    return (text,) if (text := uneven_cells(common)) else ()


def common_sweep(inputs: Mapping[str, Contribution]) -> Sweep | None:
    """The plan with all runs that `inputs` plan; None where none carries a plan.

    ConfigChangedError, with the runs and what differs, where plans do not agree on a run.
    """
    planned = {name: part.sweep for name, part in inputs.items() if part.sweep is not None}
    common: Sweep | None = None
    seen: list[tuple[str, Sweep]] = []
    for name, sweep in sorted(planned.items()):
        if common is None:
            common = sweep
        # Equal plans are the rule, and comparing objects is far cheaper than looking for
        # differences.
        elif sweep != common:
            if plan_changes(common, sweep):
                _refuse(seen, name, sweep)
            common = common_plan(common, sweep)
        seen.append((name, sweep))
    return common


def _refuse(seen: Sequence[tuple[str, Sweep]], name: str, sweep: Sweep) -> None:
    """ConfigChangedError with the input that disagrees with `sweep`."""
    for other, known in seen:
        refuse_changes(
            f"{other} and {name} plan the same runs of study {known.study!r} differently; "
            f"{other} -> {name}:",
            plan_changes(known, sweep),
            "Their numbers cannot stand in one table: merge them separately.",
        )


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
