"""What lies in an output folder: the plan, every valid result, and every file that is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from merge.errors import IncompleteError, RecordError
from merge.paths import SweepPaths
from merge.records import Result, read_result
from merge.sweep import Run, Sweep, read_sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that was left out of the merge, and why."""

    run_id: str
    file: str
    """Relative to the output folder."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One output folder, read."""

    sweep: Sweep
    results: dict[str, Result]
    """Valid results by run id."""
    problems: tuple[Problem, ...]
    aside: tuple[Problem, ...]
    """Second results of a run: kept, reported, never counted."""


def collect(output: Path) -> Collected:
    """Read all results of the sweep in `output`. Writes nothing.

    IncompleteError where `output` holds no sweep, RecordError where its plan is unreadable.
    """
    refuse_missing_sweep(output)
    sweep = read_sweep(SweepPaths(output).sweep)
    results: dict[str, Result] = {}
    problems: list[Problem] = []
    aside: list[Problem] = []
    for run in sweep.runs:
        # Listed before its result is opened, which NFS would else say is not there (`fresh_names`).
        aside.extend(_second_results(output, run))
        found = _read_one(output, run, sweep.metric)
        if isinstance(found, Result):
            results[run.run_id] = found
        elif found is not None:
            problems.append(found)
    return Collected(sweep=sweep, results=results, problems=tuple(problems), aside=tuple(aside))


def refuse_missing_sweep(output: Path) -> None:
    """IncompleteError where `output` holds no sweep."""
    path = SweepPaths(output).sweep
    if not path.exists():
        raise IncompleteError(
            f"no sweep in {output}: {path.name} is not there. "
            f"Name the folder that was given to `replicate run --output-dir`"
        )


def _read_one(output: Path, run: Run, metric: str) -> Result | Problem | None:
    path = SweepPaths(output).run(run.path).result
    try:
        result = read_result(path)
        check_belongs(path, run, result, metric)
    except FileNotFoundError:
        return None
    except RecordError as error:
        return Problem(run_id=run.run_id, file=str(path.relative_to(output)), reason=str(error))
    return result


def check_belongs(path: Path, run: Run, result: Result, metric: str) -> None:
    """RecordError unless `result` is of `run`, with the planned configuration and metric."""
    if result.run_id != run.run_id:
        raise RecordError(f"{path} is the result of {result.run_id}, not of {run.run_id}")
    if result.config_hash != run.config_hash:
        raise RecordError(
            f"{path} was trained with configuration {result.config_hash}, "
            f"the plan has {run.config_hash}: use another output folder for another configuration"
        )
    if metric not in result.metrics:
        raise RecordError(f"{path} has no metric {metric!r}, only {', '.join(result.metrics)}")


def _second_results(output: Path, run: Run) -> list[Problem]:
    paths = SweepPaths(output).run(run.path)
    return [
        Problem(
            run_id=run.run_id,
            file=str(file.relative_to(output)),
            reason="a second result of this run, kept aside and not counted",
        )
        for file in paths.results_aside()
    ]
