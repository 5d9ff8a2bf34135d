"""Reads an output folder: its plan, every valid result, and every file that cannot be counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from merge.errors import IncompleteError, RecordError
from merge.records.config_hash import hash_problem
from merge.records.manifest import Manifest
from merge.records.result import Result, result_from_json
from merge.records.sweep import Run, Sweep, read_sweep
from merge.results.entries import Entry, Problem, entry_of
from merge.results.index import ResultIndex, load_index
from merge.results.missing import refuse_absent
from merge.results.unite import Contribution
from merge.storage.atomic import TEMPORARY_SUFFIX
from merge.storage.control_paths import evaluation_folders
from merge.storage.json_files import read_json
from merge.storage.paths import RunPaths, SweepPaths

_RESULT = RunPaths(Path()).result.name
_RESULT_END = f"/{_RESULT}"
_ASIDE = "a second result of this run, kept aside and not counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One output folder, read with all that its results hold."""

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
    sweep = _read_plan(output)
    reader = _FullReader(output, sweep.manifest)
    part = _gather(output, sweep, reader)
    return Collected(
        sweep=sweep,
        results={run_id: reader.results[run_id] for run_id in part.entries},
        problems=tuple(part.problems),
        aside=tuple(part.aside),
    )


def contribution_of(collected: Collected) -> Contribution:
    """What a folder that was read contributes to a merged view."""
    manifest = collected.sweep.manifest
    return Contribution(
        sweep=collected.sweep,
        entries={
            run_id: (entry_of(result, manifest),) for run_id, result in collected.results.items()
        },
        problems=collected.problems,
        aside=collected.aside,
        num_read=len(collected.results),
    )


def gather(
    output: Path, sweep: Sweep | None = None, index: ResultIndex | None = None
) -> Contribution:
    """What `output` contributes to a merged view; reads only files that `index` does not know.

    IncompleteError where `output` holds no sweep, RecordError where its plan is unreadable.
    """
    sweep = sweep or _read_plan(output)
    index = index or load_index(output, SweepPaths(output).merge_index, sweep.manifest)
    part = _gather(output, sweep, index)
    evaluations, problems = _evaluations(output)
    return replace(
        part,
        num_read=index.num_read,
        evaluations=evaluations,
        problems=[*part.problems, *problems],
    )


def _evaluations(output: Path) -> tuple[dict[str, Contribution], list[Problem]]:
    """The evaluations of the trainings in `output`, by name, and what cannot be read of them."""
    found: dict[str, Contribution] = {}
    problems: list[Problem] = []
    for folder in evaluation_folders(output):
        try:
            found[folder.name] = gather(folder)
        except RecordError as error:
            label = f"{folder.relative_to(output).as_posix()}/{SweepPaths.PLAN_NAME}"
            # The path in the reason would make the view depend on where the command was given.
            reason = str(error).replace(str(folder), folder.name)
            name = output.resolve().name
            problems.append(Problem(run_id="", folder=name, file=label, reason=reason))
    return found, problems


class _Reader(Protocol):
    """Entries by the name of their file, relative to the output folder."""

    def entry(self, label: str) -> Entry: ...

    def knows_plan(self) -> bool:
        """Whether the hashes of the plan need not be computed again."""
        ...

    def remember_plan(self) -> None: ...


class _FullReader:
    """Reads every file, and keeps what the results hold."""

    def __init__(self, output: Path, manifest: Manifest) -> None:
        self._output = output
        self._manifest = manifest
        self.results: dict[str, Result] = {}

    def knows_plan(self) -> bool:
        return False

    def remember_plan(self) -> None:
        pass

    def entry(self, label: str) -> Entry:
        document = read_json(self._output / label, label=label)
        result = result_from_json(label, document)
        if label.endswith(_RESULT_END):
            self.results[result.run_id] = result
        return entry_of(result, self._manifest)


def _gather(output: Path, sweep: Sweep, reader: _Reader) -> Contribution:
    # Only the name: a full path would make the merged view differ between hosts.
    folder = output.resolve().name
    entries: dict[str, tuple[Entry, ...]] = {}
    changed = _changed_runs(sweep, reader)
    problems = [
        Problem(run_id=run_id, folder=folder, file=SweepPaths.PLAN_NAME, reason=reason)
        for run_id, reason in changed.items()
    ]
    aside: list[Problem] = []
    unfinished: set[Path] = set()
    # Once, not for each run: for a plan of an older version it looks at all runs.
    manifest = sweep.manifest
    bounds = manifest.bounds()
    for run, names in _run_folders(output, sweep):
        if isinstance(names, PermissionError):
            reason = f"{run.path} cannot be listed ({names.strerror})"
            problems.append(Problem(run_id=run.run_id, folder=folder, file=run.path, reason=reason))
            continue
        if _RESULT in names and run.run_id not in changed:
            label = f"{run.path}/{_RESULT}"
            try:
                entry = reader.entry(label)
                check_belongs(label, run, entry, sweep.metric)
                for name, low, high in bounds:
                    if not low <= entry.metrics.get(name, low) <= high:
                        _check_ranges(label, entry, manifest)
                entries[run.run_id] = (entry,)
            except FileNotFoundError:
                # Moved away since the listing: the run counts as not finished.
                pass
            except RecordError as error:
                # Quarantined: one damaged file must not keep the other runs from being merged.
                problems.append(
                    Problem(run_id=run.run_id, folder=folder, file=label, reason=str(error))
                )
        for name in names:
            if RunPaths.is_result_aside(name):
                aside.append(_aside(run, folder, f"{run.path}/{name}", reader))
            # Noted while the names are at hand: looking for leftovers costs a merge no listing of
            # its own.
            elif name.endswith(TEMPORARY_SUFFIX):
                unfinished.add(output / run.path)
    return Contribution(
        sweep=sweep, entries=entries, problems=problems, aside=aside, unfinished=tuple(unfinished)
    )


def _changed_runs(sweep: Sweep, reader: _Reader) -> dict[str, str]:
    """The runs that the plan no longer describes as when it was made, by id, with the reason.

    What such a run was trained with is not known, so its result is not counted.
    """
    # A quarter of a second for 10,000 runs: once for each state of the plan.
    if reader.knows_plan():
        return {}
    found = {run.run_id: text for run in sweep.runs if (text := hash_problem(run, sweep))}
    if not found:
        reader.remember_plan()
    return found


def refuse_missing_sweep(output: Path) -> None:
    """UsageError where `output` is not there, IncompleteError where it holds no sweep."""
    path = SweepPaths(output).sweep
    if not path.exists():
        refuse_absent(output, "give the folder of `replicate run --output-dir`")
        raise IncompleteError(
            f"no sweep in {output}: {path.name} is not there. "
            f"Give the folder of `replicate run --output-dir`"
        )


def check_belongs(label: str, run: Run, entry: Entry, metric: str) -> None:
    """RecordError unless `entry` is of `run`, with the planned configuration and metric."""
    # A result may have been copied by hand into another run's folder.
    if entry.run_id != run.run_id:
        raise RecordError(f"{label} is the result of {entry.run_id}, not of {run.run_id}")
    if entry.config_hash != run.config_hash:
        raise RecordError(
            f"{label} was trained with configuration {entry.config_hash}, "
            f"the plan has {run.config_hash}: use another output folder for another configuration"
        )
    if metric not in entry.metrics:
        raise RecordError(f"{label} has no metric {metric!r}, only {', '.join(entry.metrics)}")


def _check_ranges(label: str, entry: Entry, manifest: Manifest) -> None:
    try:
        manifest.check_ranges(label, entry.metrics)
    except RecordError as error:
        raise RecordError(f"{error}; move it away, and the same command trains it again") from error


def _read_plan(output: Path) -> Sweep:
    refuse_missing_sweep(output)
    return read_sweep(SweepPaths(output).sweep)


def _run_folders(output: Path, sweep: Sweep) -> Iterator[tuple[Run, list[str] | PermissionError]]:
    """The runs that have a folder, each with the names in it, or the error that refused to list it.

    Each folder is listed before a file in it is opened: an NFS client may remember that the file
    is absent (`merge.storage.nfs.fresh_names`).
    """
    root = str(output)
    for run in sweep.runs:
        try:
            yield run, sorted(os.listdir(f"{root}/{run.path}"))  # noqa: PTH208 - 10,000 times
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            yield run, error


def _aside(run: Run, folder: str, label: str, reader: _Reader) -> Problem:
    reason, entry = _ASIDE, None
    try:
        entry = reader.entry(label)
    except (FileNotFoundError, RecordError) as error:
        reason = f"{_ASIDE}; it cannot be read ({error})"
    return Problem(run_id=run.run_id, folder=folder, file=label, reason=reason, entry=entry)
