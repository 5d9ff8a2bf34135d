"""Reads what a report needs from an output folder, and writes the report's files into it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from merge.errors import RecordError, UsageError
from merge.records.elapsed import elapsed_s
from merge.records.records import AttemptRecord
from merge.records.result import Result
from merge.records.sweep import Run
from merge.results.combine import Merged
from merge.storage.atomic import write_atomic
from merge.storage.disk import open_at_once
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.runs.requests import all_attempts
from replicate.report.content import Panel, Report, Usage, make_report
from replicate.report.event_curves import read_event_curves
from replicate.report.figures import MOST_CURVES
from replicate.views.missing import read_missing
from replicate.views.table import notes

FORMS = ("md", "html", "tex", "csv")

_MOST_PANELS = 32
_PANEL_WIDTH_PX = 1000


def read_report(output: Path, merged: Merged, results: Mapping[str, Result]) -> Report:
    """The report of the sweep in `output`, which was just merged from `results`. Writes nothing."""
    runs = merged.sweep.runs
    usage = {run.run_id: used for run in runs if (used := _usage(RunPaths(output / run.path)))}
    warnings = [
        *notes(merged.document),
        *(f"left out: {problem.file}: {problem.reason}" for problem in merged.problems),
        *(f"kept aside: {problem.file}: {problem.reason}" for problem in merged.aside),
    ]
    missing = read_missing(output, merged)
    report = make_report(merged, results, usage, _panels(output, runs), warnings, missing)
    return replace(report, curves=read_event_curves(output, merged.sweep, _without_history(report)))


def _without_history(report: Report) -> list[Run]:
    """The finished runs of the cells that are drawn, as far as their results have no history."""
    drawn = {cell.name for cell in report.cells[:MOST_CURVES]}
    return [
        run
        for run in report.sweep.runs
        if run.cell in drawn
        and run.run_id in report.results
        and "history" not in report.results[run.run_id].details
    ]


def write_report(output: Path, report: Report, forms: Iterable[str]) -> dict[str, Path]:
    """Write each of `forms` into `output`; their paths. UsageError for an unknown form."""
    renderers = _renderers()
    wanted = list(dict.fromkeys(forms))
    unknown = [form for form in wanted if form not in renderers]
    if unknown:
        raise UsageError(f"unknown form {unknown[0]!r} of a report; there are {', '.join(FORMS)}")
    if not wanted:
        raise UsageError(f"no form of a report is named; there are {', '.join(FORMS)}")
    written = {}
    for form in wanted:
        text = renderers[form](report)
        path = SweepPaths(output).report(form)
        write_atomic(path, _writer(text))
        written[form] = path
    return written


def _renderers() -> Mapping[str, Callable[[Report], str]]:
    from replicate.report.csv_rows import csv_report
    from replicate.report.forms import html_report, latex_report, markdown_report

    return {"md": markdown_report, "html": html_report, "tex": latex_report, "csv": csv_report}


def _writer(text: str) -> Callable[[IO[bytes]], object]:
    return lambda file: file.write(text.encode("utf-8"))


def _usage(paths: RunPaths) -> Usage | None:
    try:
        records = all_attempts(paths)
    except RecordError:
        return None
    if not records:
        return None
    device_hours: dict[str, float] = {}
    for record in records:
        used = _hours(record) * len(record.devices)
        # All attempts, also failed ones: the hours are what the sweep cost.
        device_hours[record.device] = device_hours.get(record.device, 0.0) + used
    return Usage(
        hours=sum(_hours(record) for record in records),
        device_hours=device_hours,
        num_attempts=len(records),
        hosts=tuple(dict.fromkeys(record.owner.host for record in records)),
    )


def _hours(record: AttemptRecord) -> float:
    return (elapsed_s(record.started, record.ended, record.seconds) or 0.0) / 3600


def _panels(output: Path, runs: Iterable[Run]) -> list[Panel]:
    """The first picture of each run, the first `_MOST_PANELS` of them."""
    panels: list[Panel] = []
    for run in runs:
        pictures = SweepPaths(output).run(run.path).pictures()
        if pictures and len(panels) < _MOST_PANELS:
            path = pictures[0].relative_to(output).as_posix()
            panels.append(Panel(run_id=run.run_id, path=path, data=_as_jpeg(pictures[0])))
    return panels


def _as_jpeg(path: Path) -> bytes:
    from PIL import Image, UnidentifiedImageError

    try:
        with open_at_once(path) as file, Image.open(file) as picture:
            shown = picture.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise RecordError(
            f"{path} is not a picture ({error}): remove it, and give the same command again"
        ) from error
    # Pictures lie inside the page, which must stay small enough for a mail; the height is limited
    # only against absurd files.
    shown.thumbnail((_PANEL_WIDTH_PX, 10 * _PANEL_WIDTH_PX))
    data = io.BytesIO()
    shown.save(data, format="JPEG", quality=85)
    return data.getvalue()
