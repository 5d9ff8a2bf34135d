"""What a person may name to be merged: output folders, run folders, merged files, legacy ones.

A file that cannot be used is quarantined by name with the reason, and the rest is merged; where
nothing can be used, that reason is the error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from merge.errors import IncompleteError, RecordError
from merge.records.records import read_result
from merge.records.sweep import refuse_foreign_schema
from merge.results.collect import gather
from merge.results.documents import contribution_of_view, is_view
from merge.results.entries import Problem, entry_of
from merge.results.legacy import (
    PER_RUN_NAMES,
    LegacyFile,
    Number,
    Unit,
    detect_unit,
    fold_name,
    is_legacy,
    legacy_entries,
    metrics_of,
    read_legacy,
    refuse_impossible,
    stale_means,
)
from merge.results.unite import Contribution, unite
from merge.storage.json_files import read_json
from merge.storage.paths import RunPaths, SweepPaths


def read_inputs(paths: Iterable[Path], legacy_unit: Unit | None = None) -> dict[str, Contribution]:
    """What each of `paths` contributes, by its name. Reads only.

    IncompleteError where one does not exist; RecordError where none can be used.
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
    if not path.is_dir():
        raise IncompleteError(
            f"{path} does not exist: name output folders, run folders or merged files"
        )
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
    if "schema" in document:
        refuse_foreign_schema(path, document)
    if not is_legacy(document):
        raise RecordError(
            f"{path} is neither a merged view nor a file of the original script "
            f'({{"results": {{cell: {{"0": {{"miou": ...}}}}}}}})'
        )
    try:
        file = read_legacy(document)
        return _legacy(path, file, legacy_unit)
    except RecordError as error:
        raise RecordError(f"{path} {error}") from error


def _read_run_folder(path: Path) -> Contribution:
    """The one result of a run's folder; its plan is another input's, or that of its sweep."""
    paths = RunPaths(path)
    spec = read_json(paths.spec)
    refuse_foreign_schema(paths.spec, spec)
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
        entries={result.run_id: (entry_of(result),)},
        configs={result.run_id: config if isinstance(config, dict) else {}},
        num_read=1,
    )


def _read_legacy_folder(path: Path, legacy_unit: Unit | None) -> Contribution:
    documents = [
        file for file in (SweepPaths(path).results, SweepPaths(path).merged) if file.exists()
    ]
    per_run = list(_per_run_files(path))
    if not documents and not per_run:
        raise IncompleteError(
            f"no sweep in {path}: {SweepPaths(path).sweep.name} is not there, nor any file of the "
            f"original script. Name the folder that was given to `replicate run --output-dir`"
        )
    parts: dict[str, Contribution] = {}
    for file in documents:
        try:
            parts[file.name] = _read_file(file, legacy_unit)
        except RecordError as error:
            parts[file.name] = _quarantined(file, str(error))
    if per_run:
        parts["per-run files"] = _read_per_run(path, per_run, legacy_unit)
    return unite(parts)


def _per_run_files(path: Path) -> Iterator[tuple[str, str, Path]]:
    """Cell, fold and file of each result that the original script left in a run's folder."""
    for folder in sorted(path.glob("*/*/")):
        fold = fold_name(folder.name)
        if fold is not None:
            for name in PER_RUN_NAMES:
                if (folder / name).is_file():
                    yield folder.parent.name, fold, folder / name
                    break


def _read_per_run(
    path: Path, files: Iterable[tuple[str, str, Path]], legacy_unit: Unit | None
) -> Contribution:
    numbers: list[Number] = []
    problems: list[Problem] = []
    for cell, fold, file in files:
        label = file.relative_to(path)
        try:
            document = read_json(file)
            if "schema" in document:
                raise RecordError(
                    f"{label} is a result of a sweep whose plan is not in the folder: "
                    f"put {SweepPaths(path).sweep.name} back beside it"
                )
            numbers.append(Number(cell, fold, metrics_of(document, str(label))))
        except RecordError as error:
            reason = str(error).replace(str(file), str(label))
            problems.append(
                Problem(run_id="", folder=path.resolve().name, file=str(label), reason=reason)
            )
    legacy = Contribution(sweep=None)
    if numbers:
        try:
            legacy = _legacy(path, LegacyFile(numbers=tuple(numbers), means={}), legacy_unit)
        except RecordError as error:
            reason = f"the per-run files together: {error}"
            problems.append(
                Problem(run_id="", folder=path.resolve().name, file="*/fold*", reason=reason)
            )
    return replace(legacy, problems=problems)


def _legacy(path: Path, file: LegacyFile, legacy_unit: Unit | None) -> Contribution:
    unit = legacy_unit or detect_unit(file.numbers)
    refuse_impossible(file.numbers, unit)
    said = "as --legacy-unit says" if legacy_unit else "by its values"
    return Contribution(
        sweep=None,
        legacy=legacy_entries(file, unit),
        notes=[
            f"{path}: legacy numbers in {unit} ({said}), without configuration hash",
            *(f"{path}: {line}" for line in stale_means(file, unit)),
        ],
    )
