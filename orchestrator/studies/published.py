"""Published numbers: a YAML file of tables as papers print them, read for a study.

    title: Results of the paper
    metric: accuracy
    average_over: {split: [0, 1]}
    methods:
      NetA:
        source: "the paper, table 1"
        cells:
          resnet50_small: {0: 0.729, 1: 0.760, mean: 0.745}

Numbers are of the study's metric, as results store them: one in percent is a fraction. `mean` is
the printed one, even if it is not the mean of the printed values; `note` may stand beside it, and
the metrics that the file lists under `other_metrics: [...]`, which are shown as a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from merge.errors import StudyError
from merge.records.metrics import Metric, range_text
from merge.storage.json_files import is_finite_number
from merge.wording import hint, listed
from orchestrator.config.schema import Shape, fit
from orchestrator.config.values import text_of
from orchestrator.config.yaml_document import Document, Notes, Problem, as_lines, read_document
from orchestrator.studies.schema import PublishedShape

_SUMMARIES = ("mean", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the study's table shows."""

    metric: Metric
    average_over: str


class MethodShape(Shape):
    """The rows of one method: cell -> its numbers."""

    source: str = ""
    cells: dict[str, dict[str, Any]] = Field(default_factory=dict)


class PublishedFileShape(Shape):
    """All keys of a file of published numbers."""

    title: str = ""
    metric: str = ""
    other_metrics: list[str] = Field(default_factory=list)
    """Metrics that may stand beside `mean`, as the source prints them."""
    average_over: dict[str, list[Any]] = Field(default_factory=dict)
    methods: dict[str, MethodShape] = Field(default_factory=dict)


def read_published(path: Path) -> PublishedFileShape:
    """The tables in `path`. StudyError with all problems where they cannot be used."""
    document = read_document(path)
    shape, problems = fit(document, PublishedFileShape, document.data)
    problems += document.problems
    problems += _problems(document, shape)
    if problems:
        raise StudyError(str(path), as_lines(problems))
    return shape


def resolve_published(
    wanted: PublishedShape | None,
    folders: Sequence[Path],
    cells: Iterable[str],
    shown: Shown,
    notes: Notes,
) -> dict[str, Any]:
    """The rows that a study asks for: {"source": ..., "cells": {cell: {"mean": .., "0": ..}}}.

    With them `method`, its name; `others`, the cells of the file's other methods by their names;
    `tolerance` and `notes` where there are any. Cells that the study does not have are left in: it
    may replicate a part of the table.
    """
    if wanted is None or notes.touches("published"):
        return {}
    path = _find(wanted.file, folders, notes)
    if path is None:
        return {}
    try:
        published = read_published(path)
    except StudyError as error:
        notes.add_elsewhere(error)
        return {}
    name = _method(wanted, published, notes)
    if name is None:
        return {}
    method = published.methods[name]
    for message in _misfits(path.name, published, wanted, shown):
        notes.add(("published",), message)
    known = list(cells)
    # Some cells may be missing, if the study replicates a part of the table; none in common is a
    # mistake in the names.
    if known and not set(known) & set(method.cells):
        notes.add(
            ("published",),
            f"no cell of {path.name} is one of this study, whose cells are {listed(known)}; "
            f"published: {listed(method.cells)}",
        )
    return _resolved(published, name, wanted.tolerance)


def _misfits(
    file: str, published: PublishedFileShape, wanted: PublishedShape, shown: Shown
) -> Iterator[str]:
    """Why the numbers in `file` cannot stand beside those of the study."""
    metric = shown.metric
    # A study without a metric has one problem already.
    if metric.name and published.metric != metric.name:
        yield (
            f"{file} has numbers of metric {published.metric!r}, the study shows {metric.name!r}: "
            f"they cannot be compared; name a file of {metric.name!r}, or leave `published` out"
        )
        return
    axes = list(published.average_over)
    # A paper's mean may be over any axis; its numbers by split are not those by seed.
    if shown.average_over not in axes and _by_value(published):
        yield (
            f"{file} has numbers for each {' and '.join(axes)}, and a cell of the study averages "
            f"over {shown.average_over}: keep only each cell's `mean` in the file"
        )
    yield from islice(_impossible(file, published, metric), 3)
    width = metric.width
    if wanted.tolerance is not None and width is not None and wanted.tolerance >= width:
        yield (
            f"tolerance {wanted.tolerance:g} is as wide as the metric's range, "
            f"{range_text(metric.limits)}: every mean would be within it"
        )


def _by_value(published: PublishedFileShape) -> bool:
    rows = (row for method in published.methods.values() for row in method.cells.values())
    beside = (*_SUMMARIES, *published.other_metrics)
    return any(key not in beside for row in rows for key in row)


def _impossible(file: str, published: PublishedFileShape, metric: Metric) -> Iterator[str]:
    for name, method in published.methods.items():
        for cell, row in method.cells.items():
            for key, value in row.items():
                is_ours = key not in ("note", *published.other_metrics)
                if is_ours and (problem := metric.out_of_range(value)):
                    yield f"{file}: {name}, {cell}, {key}: {problem}"


def _find(name: str, folders: Sequence[Path], notes: Notes) -> Path | None:
    study_folder = notes.document.path.parent
    candidates = [study_folder / name] if name.endswith(".yaml") else []
    candidates += [folder / f"{name}.yaml" for folder in folders]
    for path in candidates:
        if path.is_file():
            return path
    names = sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))
    notes.add(
        ("published",),
        f"there are no published numbers {name!r}{hint(name, names)}; "
        f"a file of your own is named relative to the study file, with .yaml",
    )
    return None


def _method(wanted: PublishedShape, published: PublishedFileShape, notes: Notes) -> str | None:
    names = list(published.methods)
    if wanted.method is None and len(names) == 1:
        return names[0]
    if wanted.method in published.methods:
        return wanted.method
    if wanted.method is None:
        message = (
            f"name one of the methods, {listed(names)}, such as "
            f"{{file: {wanted.file}, method: {names[0]}}}"
        )
        notes.add(("published",), message)
    else:
        near = hint(wanted.method, names)
        notes.add(("published", "method"), f"there is no method {wanted.method!r}{near}")
    return None


def _resolved(published: PublishedFileShape, name: str, tolerance: float | None) -> dict[str, Any]:
    method = published.methods[name]
    source = f"{published.title}; {method.source}" if method.source else published.title
    others = published.other_metrics
    notes = {cell: note for cell, row in method.cells.items() if (note := _note(row, others))}
    resolved: dict[str, Any] = {
        "source": source,
        "method": name,
        "cells": _numbers(method, others),
        "others": {
            other: _numbers(shape, others)
            for other, shape in published.methods.items()
            if other != name
        },
    }
    if tolerance is not None:
        resolved["tolerance"] = tolerance
    return {**resolved, "notes": notes} if notes else resolved


def _note(row: Mapping[str, Any], other_metrics: Iterable[str]) -> str:
    beside = ", ".join(f"{name} {row[name]:g}" for name in other_metrics if name in row)
    return "; ".join(text for text in (row.get("note", ""), beside) if text)


def _numbers(method: MethodShape, other_metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        cell: {key: value for key, value in row.items() if key not in ("note", *other_metrics)}
        for cell, row in method.cells.items()
    }


def _problems(document: Document, shape: PublishedFileShape) -> list[Problem]:
    problems = [
        document.problem((key,), "missing")
        for key in ("title", "metric", "average_over", "methods")
        if key not in document.data
    ]
    known = [text_of(v) for values in shape.average_over.values() for v in values]
    known += _SUMMARIES
    for name in shape.other_metrics:
        # Else the numbers of the table's metric under that key would be taken for a note.
        if name in (*known, shape.metric):
            message = f"{name!r} is a key of the table's own metric: name other metrics alone"
            problems.append(document.problem(("other_metrics",), message))
    known += shape.other_metrics
    for name, method in shape.methods.items():
        for cell, row in method.cells.items():
            for key, value in row.items():
                place = ("methods", name, "cells", cell, key)
                if key not in known:
                    message = f"unknown key{hint(key, known)}"
                    problems.append(document.problem(place, message, at_key=True))
                elif message := _value_problem(key, value):
                    problems.append(document.problem(place, message))
    return problems


def _value_problem(key: str, value: object) -> str:
    if key == "note":
        return "" if isinstance(value, str) else "must be text"
    return "" if is_finite_number(value) else f"must be a number, not {value!r}"
