"""The plan of an output folder: written once; a later study may add runs and change none.

Pure but for `freeze` and `existing_plan`. Resources, retries, title, published numbers and the
code's version may change under a plan; what decides numbers or where they lie may not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from merge.errors import RecordError
from merge.records.config_hash import hash_problem
from merge.records.growth import Growth
from merge.records.plan_axes import named_as_planned
from merge.records.plan_changes import plan_changes, refuse_changes
from merge.records.plan_growth import grow_by_study, grow_plan_file, growth_notes
from merge.records.sweep import Run, Sweep, read_sweep
from merge.storage.clock import SYSTEM_CLOCK
from merge.storage.json_files import write_json_exclusive
from merge.storage.paths import SweepPaths
from orchestrator.config.values import text_of
from orchestrator.plan.plan import Plan
from orchestrator.runs.requests import user_name
from orchestrator.studies.grid import expand
from orchestrator.studies.study import Study

_OTHER_STUDY = (
    "give another --output-dir, or undo the change. A study that only adds runs may use this "
    "folder."
)
_OTHER_EVALUATION = (
    "restore the checkpoints that were evaluated, or give this evaluation a --name of its own."
)
_MOST_NAMED = 8
"""Runs that a message names; it says how many more there are."""


def make_sweep(study: Study, code: Mapping[str, Any]) -> Sweep:
    """The plan of `study`: all its runs, those of `also` values too, made by `code`."""
    return Sweep(
        study=study.name,
        title=study.title,
        axes=study.axes,
        average_over=study.average_over,
        metric=study.metric,
        goal=study.goal,
        settings={
            # Settings are a record for people: a list is kept as the text that --set takes.
            key: value if isinstance(value, str | int | float | bool) else text_of(value)
            for key, value in study.settings.items()
        },
        runs=expand(study),
        code=code,
        published=study.published,
        retries=study.retries,
        free_keys=study.free_keys,
        code_files=study.code_files,
        frozen_manifest=study.manifest,
    )


OnNote = Callable[[str], None]


def ignore_note(_line: str) -> None:
    """Takes a note and does nothing."""


def request_to_plan(
    study: Study, settings: Mapping[str, Any], filters: Mapping[str, Any], code: Mapping[str, Any]
) -> Growth:
    """Who asks for which runs now: what a plan records of it if it grows."""
    try:
        text = study.source.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # A `Study` that was made in memory, or whose file has gone since.
        text = ""
    return Growth(
        at=SYSTEM_CLOCK.now(),
        by=user_name(),
        host=os.uname().nodename,
        source=str(study.source),
        study=text,
        settings=settings,
        filters=filters,
        code=code,
    )


def freeze(
    output: Path, sweep: Sweep, asked: Growth | None = None, on_note: OnNote = ignore_note
) -> Sweep:
    """Write `sweep` as the plan of `output`, or add its runs to the plan that is there.

    Returns the plan on disk. `asked` is recorded where it grows; `on_note` gets a line for runs
    that are added, and for planned ones that `sweep` does not name: they stay.
    ConfigChangedError, with the runs and what differs, where it changes a planned run; RecordError
    where the plan cannot be read; StorageError where it cannot be written.
    """
    found = _compared(output, sweep, asked, on_note)
    if found is None:
        # Exclusively: of several servers that start at once, one writes the plan, the rest add to
        # it.
        if write_json_exclusive(SweepPaths(output).sweep, sweep.to_json()):
            return sweep
        found = _compared(output, sweep, asked, on_note)
    # Most commands find their runs planned: they need no lock, and write nothing.
    if found and found.planned == found.grown:
        return found.planned
    return grow_plan_file(output, lambda plan: _grown(output, plan, sweep, asked))


def existing_plan(
    output: Path, sweep: Sweep, asked: Growth | None = None, on_note: OnNote = ignore_note
) -> Sweep | None:
    """The plan that `freeze` would leave in `output`; None where it holds none. Writes nothing.

    Notes and errors are those of `freeze`.
    """
    found = _compared(output, sweep, asked, on_note)
    return found.grown if found else None


def refuse_changed_runs(output: Path, runs: Sequence[Run]) -> None:
    """RecordError with the names of those of `runs` that the plan of `output` has otherwise now.

    For a command that sends runs elsewhere: each of them would be refused there, after its wait.
    """
    path = SweepPaths(output).sweep
    try:
        planned = read_sweep(path)
    except FileNotFoundError:
        return
    by_id = {run.run_id: run for run in planned.runs}
    found = [by_id[run.run_id] for run in runs if run.run_id in by_id]
    problems = [text for run in found if (text := hash_problem(run, planned))]
    if problems:
        hidden = len(problems) - _MOST_NAMED
        more = [f"... and {hidden} more runs"] if hidden > 0 else []
        lines = [f"  {line}" for line in (*problems[:_MOST_NAMED], *more)]
        raise RecordError("\n".join([f"nothing was submitted: {path}:", *lines]), path=path)


def named_as_in(output: Path, sweep: Sweep) -> Sweep:
    """`sweep`, its runs named as the plan of `output` names them, if their axes are others."""
    try:
        return named_as_planned(sweep, read_sweep(SweepPaths(output).sweep))
    except FileNotFoundError:
        return sweep


def as_planned_in(output: Path, plan: Plan) -> Plan:
    """`plan` with its runs named as in the plan of `output`, for one that was made without it."""
    sweep = named_as_in(output, plan.sweep)
    if sweep is plan.sweep:
        return plan
    pairs = zip(plan.sweep.runs, sweep.runs, strict=True)
    names = {before.run_id: after for before, after in pairs}

    def renamed(runs: Sequence[Run]) -> tuple[Run, ...]:
        # The resources may be those of flags.
        return tuple(replace(names[run.run_id], resources=run.resources) for run in runs)

    return replace(
        plan,
        sweep=sweep,
        runs=renamed(plan.runs),
        shards=tuple(replace(shard, runs=renamed(shard.runs)) for shard in plan.shards),
        all_shards=tuple(replace(shard, runs=renamed(shard.runs)) for shard in plan.all_shards),
        estimates={names[run_id].run_id: each for run_id, each in plan.estimates.items()},
    )


class _Compared(NamedTuple):
    planned: Sweep
    grown: Sweep


def _compared(
    output: Path, sweep: Sweep, asked: Growth | None, on_note: OnNote
) -> _Compared | None:
    try:
        planned = read_sweep(SweepPaths(output).sweep)
    except FileNotFoundError:
        return None
    grown = _grown(output, planned, sweep, asked)
    for line in growth_notes(planned, sweep):
        on_note(line)
    return _Compared(planned, grown)


def _grown(output: Path, planned: Sweep, sweep: Sweep, asked: Growth | None) -> Sweep:
    is_evaluation = any(run.checkpoint is not None for run in sweep.runs)
    refuse_changes(
        f"this {'evaluation' if is_evaluation else 'study'} changes runs that are planned in "
        f"{SweepPaths(output).sweep}; planned -> requested now:",
        plan_changes(planned, sweep),
        "Numbers of both would be mixed in one table, so nothing was changed: "
        f"{_OTHER_EVALUATION if is_evaluation else _OTHER_STUDY}",
    )
    entry = asked or Growth(at=SYSTEM_CLOCK.now(), by=user_name(), host=os.uname().nodename)
    return grow_by_study(planned, sweep, entry)
