"""Combination of inputs into the merged view: pure, and the same for any order of its inputs.

The view has the form that readers of `replication_results.json` know: by cell, then by value
of the averaged axis. A mean stands under `mean` only where no run of the cell is missing.

A view carries all that it was made of: `runs` holds every result ever seen, those in conflict too,
beside `plan`, `legacy`, `aside` and `quarantined`. So views merge like the folders they came from,
and merging any parts of a set of inputs, in any order and any number of times, ends in one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from merge.errors import IncompleteError
from merge.records.plan_json import plan_to_json
from merge.records.sweep import SCHEMA, Run, Sweep
from merge.results.cells import UNUSABLE_KEY, cell_view, expected_values
from merge.results.code_flags import table_flags
from merge.results.collect import Collected, contribution_of
from merge.results.comparability import test_list_flags
from merge.results.conflicts import Conflict, OnConflict, agree, choose
from merge.results.entries import Entry, Problem
from merge.results.legacy import sweep_of_legacy
from merge.results.spread import over_both
from merge.results.unite import (
    Contribution,
    common_sweep,
    evaluations_of,
    unite,
    with_plan,
)

__all__ = ["EVALUATIONS_KEY", "Conflict", "Merged", "combine", "expected_values"]

EVALUATIONS_KEY = "evaluations"
"""Key of a view: its evaluations by name, each a merged view of its own."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Merged:
    """The merged view and what was left out of it."""

    document: dict[str, Any]
    """What `replication_results.json` holds."""
    sweep: Sweep
    conflicts: tuple[Conflict, ...]
    problems: tuple[Problem, ...]
    aside: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    """Remarks on the inputs, for a person."""
    num_read: int = 0
    """Result files that had to be read."""
    evaluations: Mapping[str, Merged] = field(default_factory=dict)
    """The trainings tested again under other settings, by name. Never part of the table."""

    def __repr__(self) -> str:
        cells = self.document["results"]
        num_whole = sum(bool(cell["complete"]) for cell in cells.values())
        left_out = len(self.problems) + len(self.aside) + len(self.conflicts)
        return (
            f"<Merged study {self.sweep.study!r}: {num_whole} of {len(cells)} cells with results "
            f"complete, {left_out} files or conflicts left out>"
        )

    @property
    def is_clean(self) -> bool:
        """Whether every file that was found could be counted."""
        undecided = [conflict for conflict in self.conflicts if conflict.counted is None]
        are_clean = all(each.is_clean for each in self.evaluations.values())
        return are_clean and not (undecided or self.problems or self.aside)

    @property
    def is_usable(self) -> bool:
        """Whether no cell has numbers that cannot be averaged."""
        return not any(UNUSABLE_KEY in cell for cell in self.document["results"].values())

    @property
    def is_complete(self) -> bool:
        """Whether every cell of the table has all of its results."""
        begun = self.document["results"].values()
        return not self.document["cells_without_results"] and all(c["complete"] for c in begun)


def combine(
    inputs: Mapping[str, Contribution | Collected],
    *,
    on_conflict: OnConflict = "error",
    has_sources: bool = True,
) -> Merged:
    """Merge `inputs` (by name). ConfigChangedError where plans disagree on a run.

    `on_conflict` says what is counted where results of one run differ; all of them stay in the
    view in any case. Without `has_sources` the document lacks the plan and the single results
    (`plan`, `runs`), which only a later merge needs and which cost most of its making.
    """
    parts = {
        name: contribution_of(part) if isinstance(part, Collected) else part
        for name, part in inputs.items()
    }
    # Before `unite`: conflicts name the inputs of a result, so each part needs its results read by
    # the common plan.
    shared = common_sweep(parts)
    parts = {name: with_plan(name, part, shared) for name, part in parts.items()}
    united = unite(parts)
    if united.sweep is None and not united.legacy:
        raise IncompleteError(f"there is nothing to merge in {', '.join(sorted(inputs))}")
    # Legacy files alone have no plan: a stand-in is made of their cells.
    sweep = united.sweep or sweep_of_legacy(united.legacy)
    found, unplanned = _with_legacy(sweep, united)
    chosen, conflicts = _choose(sweep, found, parts, on_conflict)
    evaluations = {
        name: combine(found, on_conflict=on_conflict, has_sources=has_sources)
        for name, found in evaluations_of(parts).items()
    }
    return Merged(
        document={
            **_document(sweep, united, chosen, conflicts),
            **(_plan_and_results(sweep, united) if has_sources else {}),
            **_evaluations(evaluations),
        },
        sweep=sweep,
        conflicts=conflicts,
        problems=(*united.problems, *unplanned),
        aside=tuple(united.aside),
        notes=tuple(united.notes),
        num_read=united.num_read,
        evaluations=evaluations,
    )


def _evaluations(evaluations: Mapping[str, Merged]) -> dict[str, Any]:
    """The part of a view that holds evaluations: last, so that what stands before it stays."""
    documents = {name: merged.document for name, merged in evaluations.items()}
    return {EVALUATIONS_KEY: documents} if documents else {}


def _document(
    sweep: Sweep,
    united: Contribution,
    chosen: Mapping[str, Entry],
    conflicts: Sequence[Conflict],
) -> dict[str, Any]:
    cells = _by_cell(sweep.runs)
    manifest = sweep.manifest
    counted = [(run, chosen[run.run_id]) for run in sweep.runs if run.run_id in chosen]
    flags = test_list_flags(counted, manifest.comparability.test_list)
    over_cells = table_flags(counted)
    results = {
        cell: cell_view(sweep, manifest, runs, chosen, flags.get(cell, ()))
        for cell, runs in cells.items()
        if any(run.run_id in chosen for run in runs)
    }
    both = over_both(sweep, chosen)
    return {
        "schema": SCHEMA,
        "study": sweep.study,
        "metric": sweep.metric,
        "goal": sweep.goal,
        "average_over": sweep.average_over,
        "results": results,
        "cells_without_results": sorted(
            cell
            for cell, runs in cells.items()
            if cell not in results and any(run.in_table for run in runs)
        ),
        **({"flags": over_cells} if over_cells else {}),
        **({"over_both": both} if both else {}),
        "conflicts": [conflict.to_json(sweep.metric) for conflict in conflicts],
        "aside": [problem.to_json() for problem in united.aside],
        "quarantined": [problem.to_json() for problem in united.problems],
        "published": dict(sweep.published),
        "legacy": [entry.to_json() for entry in united.legacy],
    }


def _plan_and_results(sweep: Sweep, united: Contribution) -> dict[str, Any]:
    """The plan and every result: from these the view can be merged again."""
    return {
        # In the order of the plan, so that the bytes do not depend on the order of the inputs.
        "runs": {
            run.run_id: [entry.to_json() for entry in united.entries[run.run_id]]
            for run in sweep.runs
            if run.run_id in united.entries
        },
        "plan": None if united.sweep is None else plan_to_json(united.sweep),
    }


def _with_legacy(
    sweep: Sweep, united: Contribution
) -> tuple[dict[str, list[Entry]], list[Problem]]:
    """Results by run id, those of legacy files among them; and legacy numbers of no run."""
    found = {run_id: list(entries) for run_id, entries in united.entries.items()}
    unplanned: list[Problem] = []
    manifest = sweep.manifest
    run_ids = (
        {(run.cell, str(run.axes[sweep.average_over])): run.run_id for run in sweep.runs}
        # Only where it is needed: it costs a pass over all runs.
        if united.legacy
        else {}
    )
    for entry in united.legacy:
        run_id = run_ids.get((entry.cell, entry.averaged))
        if run_id is None:
            reason = f"a legacy number of a run that study {sweep.study!r} does not have"
        elif sweep.metric not in entry.metrics:
            reason = f"a legacy number without metric {sweep.metric!r}"
        elif wrong := manifest.metric(sweep.metric).out_of_range(entry.metrics[sweep.metric]):
            reason = f"a legacy number: {sweep.metric} {wrong}"
        else:
            found.setdefault(run_id, []).append(entry.as_entry(run_id))
            continue
        file = f"{entry.cell}/{entry.averaged}"
        unplanned.append(Problem(run_id=run_id or "", file=file, reason=reason))
    return found, unplanned


def _choose(
    sweep: Sweep,
    found: Mapping[str, Sequence[Entry]],
    parts: Mapping[str, Contribution],
    on_conflict: OnConflict,
) -> tuple[dict[str, Entry], tuple[Conflict, ...]]:
    chosen: dict[str, Entry] = {}
    conflicts: list[Conflict] = []
    for run in sweep.runs:
        entries = found.get(run.run_id)
        if not entries:
            continue
        # One result is the rule: 10,000 calls of `choose` are saved.
        counted = entries[0] if len(entries) == 1 else choose(entries, on_conflict)
        if counted is not None:
            chosen[run.run_id] = counted
        # Reported also where a policy has decided: the reader must know that it had to.
        if len(entries) > 1 and not agree(entries):
            conflicts.append(_conflict(sweep, run, entries, counted, parts))
    return chosen, tuple(conflicts)


def _conflict(
    sweep: Sweep,
    run: Run,
    entries: Sequence[Entry],
    counted: Entry | None,
    parts: Mapping[str, Contribution],
) -> Conflict:
    ordered = sorted(entries, key=lambda entry: entry.order)
    return Conflict(
        run_id=run.run_id,
        sources=tuple(_sources(sweep, run, entry, parts) for entry in ordered),
        values=tuple(entry.metrics.get(sweep.metric, float("nan")) for entry in ordered),
        entries=tuple(ordered),
        counted=counted,
    )


def _sources(sweep: Sweep, run: Run, entry: Entry, parts: Mapping[str, Contribution]) -> str:
    """Names of the inputs that hold `entry`."""
    averaged = str(run.axes[sweep.average_over])
    names = [
        name
        for name, part in parts.items()
        if entry in part.entries.get(run.run_id, ())
        or (
            # A part keeps legacy numbers by cell and averaged value, not by run.
            entry.is_legacy
            and any(
                (old.cell, old.averaged, old.metrics) == (run.cell, averaged, entry.metrics)
                for old in part.legacy
            )
        )
    ]
    return ", ".join(sorted(names))


def _by_cell(runs: Iterable[Run]) -> dict[str, list[Run]]:
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    return cells
