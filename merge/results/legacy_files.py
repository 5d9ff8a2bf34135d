"""Files and folders of the original script, read: what they contribute to a merged view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.results.entries import Problem
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
from merge.results.unite import Contribution
from merge.storage.json_files import read_json
from merge.storage.paths import SweepPaths


def contribution_of_legacy(
    path: Path, document: Mapping[str, Any], legacy_unit: Unit | None
) -> Contribution:
    """What the `document` in the file `path` contributes. RecordError for any other form."""
    if not is_legacy(document):
        raise RecordError(
            f"{path} is neither a merged view nor a file of the original script "
            f'({{"results": {{cell: {{"0": {{"miou": ...}}}}}}}})'
        )
    try:
        return _legacy(path, read_legacy(document), legacy_unit)
    except RecordError as error:
        raise RecordError(f"{path} {error}") from error


def per_run_files(path: Path) -> Iterator[tuple[str, str, Path]]:
    """Cell, fold and file of each result that the original script left in a run's folder."""
    for folder in sorted(path.glob("*/*/")):
        fold = fold_name(folder.name)
        if fold is not None:
            for name in PER_RUN_NAMES:
                if (folder / name).is_file():
                    yield folder.parent.name, fold, folder / name
                    break


def read_per_run(
    path: Path, files: Iterable[tuple[str, str, Path]], legacy_unit: Unit | None
) -> Contribution:
    """What the per-run `files` of the folder `path` contribute; problems of single files too."""
    numbers: list[Number] = []
    problems: list[Problem] = []
    for cell, fold, file in files:
        label = file.relative_to(path)
        try:
            document = read_json(file)
            # Not legacy: without its plan nothing says which configuration it was trained with.
            if "schema" in document:
                raise RecordError(
                    f"{label} is a result of a sweep whose plan is not in the folder: "
                    f"put {SweepPaths(path).sweep.name} back beside it"
                )
            numbers.append(Number(cell, fold, metrics_of(document, str(label))))
        except RecordError as error:
            # Relative: the reason is part of the merged view, which must not depend on the current
            # folder.
            reason = str(error).replace(str(file), str(label))
            problems.append(
                Problem(run_id="", folder=path.resolve().name, file=str(label), reason=reason)
            )
    legacy = Contribution(sweep=None)
    if numbers:
        try:
            # Together, because one file has too few values to tell percent from fractions.
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
