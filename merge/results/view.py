"""The merged view on disk: any number of processes may rebuild it at any time."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from merge.errors import IncomparableError, RecordError, StorageError, UsageError
from merge.records.result import Result
from merge.records.sweep import Sweep, read_sweep
from merge.results.collect import gather, refuse_missing_sweep
from merge.results.combine import Merged, combine
from merge.results.conflicts import OnConflict
from merge.results.documents import contribution_of_view, view_bytes
from merge.results.flags import flag_lines
from merge.results.garbage_collection import no_garbage_collection
from merge.results.index import ResultIndex, ResultReader, known_entries, load_index
from merge.results.inputs import read_inputs
from merge.results.legacy import Unit
from merge.results.result_files import result_files
from merge.storage.atomic import write_bytes
from merge.storage.control_paths import evaluation_folders
from merge.storage.json_files import read_json
from merge.storage.leftovers import remove_leftovers
from merge.storage.locking import LOCK_PATIENCE_S, exclusively
from merge.storage.nfs import read_whole
from merge.storage.passing_failures import repeated
from merge.storage.paths import RunPaths, SweepPaths

_Written = TypeVar("_Written")


def rebuild(
    output: Path,
    *,
    on_conflict: OnConflict = "error",
    is_strict: bool = False,
    patience_s: float = LOCK_PATIENCE_S,
) -> Merged:
    """Merge the results in `output` into its `replication_results.json`.

    Each writer reads after the writer before it, or writes again (`merge.storage.locking`): the
    view never loses a result that an earlier view had. Results that an earlier merge has read
    are not read again. StorageError where another merge holds the lock longer than `patience_s`.
    """

    def write_view(sweep: Sweep) -> Merged:
        index = load_index(output, SweepPaths(output).merge_index, sweep.manifest)
        return _write_view(output, sweep, index, on_conflict=on_conflict, is_strict=is_strict)[0]

    return _exclusively(output, write_view, patience_s)


def rebuild_with_results(output: Path) -> tuple[Merged, dict[str, Result]]:
    """`rebuild`, and the whole results that are valid by run id, with each file read once."""

    def write_view(sweep: Sweep) -> tuple[Merged, dict[str, Result]]:
        manifest = sweep.manifest
        known = known_entries(SweepPaths(output).merge_index, manifest)
        reader = ResultReader(output, known, manifest)
        merged, valid = _write_view(output, sweep, reader)
        # Not by the id that a file states: a copy in another run's folder states the same one.
        places = {
            run.run_id: RunPaths(Path(run.path)).result.as_posix()
            for run in sweep.runs
            if run.run_id in valid
        }
        return merged, {run_id: reader.results[place] for run_id, place in places.items()}

    return _exclusively(output, write_view, LOCK_PATIENCE_S)


def _write_view(
    output: Path,
    sweep: Sweep,
    index: ResultIndex,
    *,
    on_conflict: OnConflict = "error",
    is_strict: bool = False,
) -> tuple[Merged, Collection[str]]:
    """The view, and the ids of the runs that have a valid result."""
    paths = SweepPaths(output)
    part = gather(output, sweep, index)
    merged = combine({str(output): part}, on_conflict=on_conflict)
    if is_strict:
        refuse_flags(merged)
    text = view_bytes(merged.document)
    repeated(lambda: write_bytes(paths.results, text))
    if index.is_changed:
        # An index that was not written costs time only.
        with suppress(StorageError):
            index.save(paths.merge_index)
    remove_leftovers((output, *part.unfinished))
    return merged, part.entries.keys()


def _exclusively(
    output: Path, write_view: Callable[[Sweep], _Written], patience_s: float
) -> _Written:
    # Before the lock, which would create a folder that does not exist.
    refuse_missing_sweep(output)
    paths = SweepPaths(output)
    plan = _GrowingPlan(paths.sweep)
    with no_garbage_collection():
        # The plan too is read under the lock: a merge that waited with a smaller plan would leave
        # out the results that the merge before it has written.
        return exclusively(
            paths.merge_lock,
            lambda: write_view(plan.read()),
            lambda: (
                plan.stamp(),
                result_files(output, plan.read()),
                _views_of_evaluations(output),
            ),
            patience_s=patience_s,
        )


def _views_of_evaluations(output: Path) -> tuple[object, ...]:
    """Which results the evaluations in `output` have: each merges its own after each of them."""
    views = [SweepPaths(folder).results for folder in evaluation_folders(output)]
    return tuple((path.parent.name, read_whole(path)) for path in views if path.exists())


class _GrowingPlan:
    """The plan of an output folder, read again where it was replaced by a larger one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[object, Sweep] | None = None

    def stamp(self) -> object:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def read(self) -> Sweep:
        # Asked before the reading: a plan that is replaced meanwhile is read again by the next
        # call.
        stamp = self.stamp()
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, read_sweep(self._path)
        return self._read[1]


def merge_inputs(
    inputs: Sequence[Path],
    into: Path,
    *,
    on_conflict: OnConflict = "error",
    is_strict: bool = False,
    legacy_unit: Unit | None = None,
) -> Merged:
    """Merge output folders, run folders, merged and legacy files into the file `into`.

    ConfigChangedError where plans disagree on a run, IncomparableError for flags where `is_strict`;
    nothing is written then.
    """

    _refuse_wrong_place(into, inputs)

    def merge() -> Merged:
        merged = combine(read_inputs(inputs, legacy_unit), on_conflict=on_conflict)
        if is_strict:
            refuse_flags(merged)
        return merged

    def write(merged: Merged) -> Merged:
        write_bytes(into, view_bytes(merged.document))
        return merged

    # Where an input is replaced, another merge must not write it between reading and writing. Else
    # inputs that cannot be merged leave no file behind, not even the lock's.
    is_input = into.exists() and into.resolve() in [one.resolve() for one in inputs]
    with no_garbage_collection():
        merged = None if is_input else merge()
        # `seen` is constant: no other merge reads what this one writes, so nothing has to be
        # checked.
        lock = SweepPaths(into.parent).merge_lock
        return exclusively(lock, lambda: write(merged or merge()), lambda: None)


def merge_named(
    inputs: Sequence[Path],
    into: Path | None = None,
    *,
    on_conflict: OnConflict = "error",
    is_strict: bool = False,
    legacy_unit: Unit | None = None,
) -> tuple[Merged, Path]:
    """Merge what a command line names; the merged view and the file that it was written to.

    One output folder's own view where `into` is not named, else `merged_results.json` here.
    """
    if into is None and len(inputs) == 1 and _has_own_view(inputs[0]):
        merged = rebuild(inputs[0], on_conflict=on_conflict, is_strict=is_strict)
        return merged, SweepPaths(inputs[0]).results
    path = into or SweepPaths(Path()).merged
    return merge_inputs(
        inputs, path, on_conflict=on_conflict, is_strict=is_strict, legacy_unit=legacy_unit
    ), path


def _refuse_wrong_place(into: Path, inputs: Sequence[Path]) -> None:
    """UsageError where a merged file would destroy something else, or cannot be a file."""
    taken = (SweepPaths.PLAN_NAME, RunPaths(Path()).result.name, RunPaths(Path()).spec.name)
    # `lexists`: a broken link would be replaced as well.
    if into.name in taken or (os.path.lexists(into) and not _may_be_replaced(into, inputs)):
        raise UsageError(
            f"--into {into} is a name that papergrid uses itself, or would replace a file that is "
            f"neither an input nor a merged file: give another file name, such as "
            f"merged_results.json"
        )


def _may_be_replaced(path: Path, inputs: Sequence[Path]) -> bool:
    """Whether a merge into `path` loses nothing: it is an input, or a merged file."""
    if not path.is_file():
        return False
    if path.resolve() in [one.resolve() for one in inputs]:
        return True
    try:
        document = read_json(path)
    except RecordError:
        return False
    return "schema" in document and isinstance(document.get("results"), dict)


def _has_own_view(path: Path) -> bool:
    """Whether `path` is an output folder; a folder that is none may hold legacy files."""
    return SweepPaths(path).sweep.exists()


def merge_views(
    documents: Mapping[str, Mapping[str, Any]], *, on_conflict: OnConflict = "error"
) -> Merged:
    """Merge views that are in memory, by name: for stores that are no file system. Pure.

    `view_bytes(merged.document)` is the merged view's text. RecordError where one is unusable.
    """
    parts = {name: contribution_of_view(Path(name), view) for name, view in documents.items()}
    return combine(parts, on_conflict=on_conflict)


def refuse_flags(merged: Merged) -> None:
    """IncomparableError, naming every flag, unless all runs of the table are comparable."""
    flags = flag_lines(merged.document)
    if flags:
        lines = [f"  {line}" for line in flags]
        raise IncomparableError(
            "\n".join(
                [
                    "runs are not comparable, or means are over a part of what they should be, and "
                    "--strict refuses to put them in one table:",
                    *lines,
                    "Train these runs again alike, on the whole, or merge without --strict: "
                    "the cells are flagged then. Nothing was written.",
                ]
            )
        )
