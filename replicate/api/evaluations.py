"""Evaluations: finished trainings of an output folder, tested again under other settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from replicate.api.plans import Set, Where, _settings, _texts, runs_of

if TYPE_CHECKING:
    from merge.records.sweep import Sweep
    from orchestrator.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What would be evaluated: `api.run(evaluation.plan, evaluation.output)` does it."""

    plan: Plan
    output: Path
    """Its own output folder, below that of the trainings."""
    unfinished: tuple[str, ...]
    """Selected trainings that have no result yet, by id: the same call later adds them."""


def plan_evaluation(  # noqa: PLR0913 (all but one by keyword)
    output: str | Path,
    *,
    where: Where | None = None,
    run_ids: Sequence[str] | None = None,
    set: Set | None = None,
    checkpoint: str | Path = "best",
    name: str | None = None,
    shard_by: str | Sequence[str] = (),
    shard: str | None = None,
) -> Evaluation:
    """Plan to test finished trainings in `output` again; starts and writes nothing.

    `set` are test settings as `--set` takes them, `checkpoint` is best, last or a file, `name`
    that of the evaluation's folder. `where` and `run_ids` select trainings, else the table's.
    UsageError: a setting decides the training, or the folder holds no trainings of an experiment.
    IncompleteError: no selected training is finished, or its checkpoint is missing.
    """
    from merge.errors import IncompleteError
    from merge.results.collect import gather, refuse_missing_sweep
    from orchestrator.plan.evaluations import evaluation_plan, read_request, refuse_evaluation
    from orchestrator.plan.selection import choose, select

    folder = Path(output)
    refuse_missing_sweep(folder)
    part = gather(folder)
    trained = part.sweep
    assert trained is not None  # `gather` reads a folder by its plan
    refuse_evaluation(folder, trained)
    request = read_request(_settings(set, None), checkpoint, name)
    if run_ids:
        chosen = runs_of(folder, where, run_ids)
    else:
        # As in `plan`: an axis without a filter has the values of its table.
        named = _texts(where)
        chosen = select(trained.runs, trained.axes, named) if named else choose(trained.runs, None)
    sweep, there = evaluation_plan(folder, trained, request, part.entries.keys(), chosen)
    if not (ready := [run.run_id for run in chosen if run.run_id in part.entries]):
        raise IncompleteError(
            f"none of the {len(chosen)} selected trainings in {folder} has a result yet: "
            "evaluate them when they are done"
        )
    return Evaluation(
        plan=_plan(sweep, there, ready, shard_by, shard),
        output=there,
        unfinished=tuple(run.run_id for run in chosen if run.run_id not in part.entries),
    )


def _plan(
    sweep: Sweep,
    folder: Path,
    ready: Sequence[str],
    shard_by: str | Sequence[str],
    shard: str | None,
) -> Plan:
    from orchestrator.plan.code_version import code_version
    from orchestrator.plan.division import parse_division
    from orchestrator.plan.durations import estimate_from
    from orchestrator.plan.plan import Plan
    from orchestrator.plan.selection import choose

    code = code_version(sweep.runs[0], named=sweep.code_files)
    sweep = replace(sweep, code=code)
    runs = choose(sweep.runs, ready)
    division = parse_division([shard_by] if isinstance(shard_by, str) else shard_by, shard, None)
    estimates = estimate_from(folder, runs)
    all_shards = division.divide(runs, estimates, folder)
    shards = division.pick(all_shards)
    return Plan(
        sweep=sweep,
        runs=tuple(run for one in shards for run in one.runs),
        shards=shards,
        division=division,
        all_shards=all_shards,
        estimates=estimates,
    )
