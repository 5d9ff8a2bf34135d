"""The inputs of a merge: output folders, run folders, merged files, files of the original script.

A file that cannot be used is quarantined: the merged view names it with the reason, and the rest is
merged. If no input can be used, the reason is the error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from merge.errors import IncompleteError, RecordError
from merge.records.result import read_result
from merge.records.sweep import refuse_foreign_schema
from merge.results.collect import gather
from merge.results.documents import contribution_of_view, is_view
from merge.results.entries import Problem
from merge.results.legacy import Unit
from merge.results.legacy_files import contribution_of_legacy, per_run_files, read_per_run
from merge.results.missing import refuse_absent
from merge.results.unite import Contribution, unite
from merge.storage.json_files import read_json
from merge.storage.paths import RunPaths, SweepPaths


def read_inputs(paths: Iterable[Path], legacy_unit: Unit | None = None) -> dict[str, Contribution]:
    """What each of `paths` contributes, by its name. Reads only.

    UsageError where one does not exist; RecordError where none can be used.
    """
    inputs: dict[str, Contribution] = {}
    failures: list[RecordError] = []
    for path in paths:
        try:
            inputs[str(path)] = read_input(path, legacy_unit)
        except RecordError as error:
            failures.append(error)
            inputs[str(path)] = _quarantined(path, str(error))
    if failures and len(failures) == len(inputs):
        raise failures[0]
    return inputs


def read_input(path: Path, legacy_unit: Unit | None = None) -> Contribution:
    """What `path` contributes. RecordError where it cannot be used at all."""
    if path.is_file():
        return _read_file(path, legacy_unit)
    refuse_absent(path, "give output folders, run folders or merged files")
    if not path.is_dir():
        raise RecordError(f"{path} is a pipe or a device, not a file or a folder", path=path)
    # A plan first: a sweep may lie in a folder that holds files of the original script, too.
    if SweepPaths(path).sweep.exists():
        return gather(path)
    if RunPaths(path).spec.exists():
        return _read_run_folder(path)
    return _read_legacy_folder(path, legacy_unit)


def _quarantined(path: Path, reason: str) -> Contribution:
    resolved = path.resolve()
    # A path in the reason would make the view depend on where the command was given.
    reason = reason.replace(str(path), path.name)
    return Contribution(
        sweep=None,
        problems=[
            Problem(run_id="", folder=resolved.parent.name, file=resolved.name, reason=reason)
        ],
    )


def _read_file(path: Path, legacy_unit: Unit | None) -> Contribution:
    document = read_json(path)
    if is_view(document):
        return contribution_of_view(path, document)
    # Ours, but of a version whose views did not carry their runs: read as a legacy file, unless its
    # schema is newer.
    if "schema" in document:
        refuse_foreign_schema(path, document)
    return contribution_of_legacy(path, document, legacy_unit)


def _read_run_folder(path: Path) -> Contribution:
    """The result in a run's folder; its plan is that of its output folder, or of another input."""
    paths = RunPaths(path)
    spec = read_json(paths.spec)
    refuse_foreign_schema(paths.spec, spec)
    # The run's path in its spec says how many folders above it the output folder is; a run folder
    # that was copied elsewhere has none.
    root = path.resolve()
    parts = Path(str(spec.get("path"))).parts
    output = root.parents[len(parts) - 1] if root.parts[-len(parts) :] == parts else None
    if output is not None and SweepPaths(output).sweep.exists():
        part = gather(output)
        run_id = str(spec.get("run_id"))
        return replace(
            part,
            entries={name: found for name, found in part.entries.items() if name == run_id},
            problems=[problem for problem in part.problems if problem.run_id == run_id],
            aside=[problem for problem in part.aside if problem.run_id == run_id],
        )
    try:
        result = read_result(paths.result)
    except FileNotFoundError as error:
        raise IncompleteError(f"{path} is the folder of a run that has no result yet") from error
    config = spec.get("config")
    return Contribution(
        sweep=None,
        unread=(result,),
        configs={result.run_id: config if isinstance(config, dict) else {}},
        num_read=1,
    )


def _read_legacy_folder(path: Path, legacy_unit: Unit | None) -> Contribution:
    documents = [
        file for file in (SweepPaths(path).results, SweepPaths(path).merged) if file.exists()
    ]
    per_run = list(per_run_files(path))
    if not documents and not per_run:
        raise IncompleteError(
            f"no sweep in {path}: {SweepPaths(path).sweep.name} is not there, nor any file of the "
            f"original script. Give the folder of `replicate run --output-dir`"
        )
    parts: dict[str, Contribution] = {}
    for file in documents:
        try:
            parts[file.name] = _read_file(file, legacy_unit)
        except RecordError as error:
            parts[file.name] = _quarantined(file, str(error))
    if per_run:
        parts["per-run files"] = read_per_run(path, per_run, legacy_unit)
    return unite(parts)
