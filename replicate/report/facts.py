"""The report's tables and lists as plain text; each form escapes them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from merge.records.code import changes_text, code_text
from merge.records.result import Result
from merge.records.sweep import Run
from merge.results.parts import part_text, with_part
from merge.storage.json_files import is_finite_number
from replicate.report.content import Cell, Report, Verdict
from replicate.report.settings import MISSING, without_empty_columns
from replicate.views.table import duration


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of a table as it is shown."""

    text: str
    column: str = ""
    exact: float | None = None
    """The number before rounding, which the page carries so that a table can be checked."""


def summary(report: Report) -> str:
    """How many cells are complete, what failed, where the published numbers are from."""
    complete = sum(cell.mean is not None for cell in report.cells)
    text = f"{complete} of {len(report.cells)} cells are complete."
    if partial := sum(bool(cell.parts) for cell in report.cells):
        text += f" Not whole: {partial}."
    if report.failures:
        text += f" {report.failures}."
    source = report.sweep.published.get("source")
    return f"{text} Published numbers: {source}." if source else text


def has_intervals(report: Report) -> bool:
    """Whether any cell has a confidence interval."""
    return any(cell.interval for cell in report.cells)


def has_untrained(report: Report) -> bool:
    """Whether any cell has its metric before training."""
    return any(cell.untrained is not None for cell in report.cells)


def has_published(report: Report) -> bool:
    """Whether any cell has a published mean."""
    return any("mean" in cell.published for cell in report.cells)


def has_verdicts(report: Report) -> bool:
    """Whether there is anything to say of any cell."""
    return any(cell.verdict is not Verdict.NOT_PUBLISHED for cell in report.cells)


def baseline_label(report: Report) -> str:
    """The name of the metrics before training; empty where the experiment has none."""
    baseline = report.sweep.manifest.baseline
    return baseline.label if baseline else ""


def comparison_header(report: Report) -> list[str]:
    """Names of the columns: the cell, the entries of `comparison`, the verdict."""
    return [
        f"{report.sweep.metric}{report.form.unit}{report.form.direction}",
        *(f"{report.sweep.average_over} {name}" for name in report.columns),
        *("mean", "std", "n"),
        *(["95% interval"] if has_intervals(report) else []),
        *([baseline_label(report)] if has_untrained(report) else []),
        *(["published", "difference"] if has_published(report) else []),
        *(["verdict"] if has_verdicts(report) else []),
    ]


def comparison(report: Report) -> Iterator[tuple[Cell, list[Entry]]]:
    """Each cell with its numbers: ours, published, difference."""
    optional = _Optional(has_intervals(report), has_untrained(report), has_published(report))
    for cell in report.cells:
        yield cell, _entries(report, cell, optional)


def comparison_texts(report: Report) -> Iterator[list[str]]:
    """`comparison` as rows of text."""
    shows_verdict = has_verdicts(report)
    for cell, entries in comparison(report):
        verdict = [cell.verdict.text(report.sweep.goal)] if shows_verdict else []
        yield [cell.name, *(entry.text for entry in entries), *verdict]


@dataclass(frozen=True, slots=True)
class _Optional:
    """Which columns some cell has a value for."""

    interval: bool
    untrained: bool
    published: bool


def _entries(report: Report, cell: Cell, optional: _Optional) -> list[Entry]:
    return [
        *(_number(report, cell, name, cell.values.get(name)) for name in report.columns),
        _number(report, cell, "mean", cell.mean),
        _entry(report, "std", cell.std),
        Entry(f"{len(cell.values)}/{len(cell.needed)}"),
        *([Entry(interval_text(report, cell))] if optional.interval else []),
        *([_entry(report, baseline_label(report), cell.untrained)] if optional.untrained else []),
        *(_beside_published(report, cell) if optional.published else []),
    ]


def _beside_published(report: Report, cell: Cell) -> list[Entry]:
    difference = cell.difference
    return [
        _entry(report, "published", cell.published.get("mean")),
        Entry(MISSING if difference is None else report.form.difference(difference)),
    ]


def _number(report: Report, cell: Cell, name: str, value: float | None) -> Entry:
    """A number of ours, with the part that it is over; or why it is missing."""
    if value is None:
        return Entry(cell.missing.get(name, MISSING))
    entry = _entry(report, name, value)
    return replace(entry, text=with_part(entry.text, cell.parts.get(name, "")))


def cell_notes(report: Report) -> list[str]:
    """Notes on published numbers, standard deviations, intervals and verdicts."""
    notes = [f"{cell.name}, published: {cell.note}" for cell in report.cells if cell.note]
    if any(cell.std is not None for cell in report.cells):
        notes.append(f"std: over {report.sweep.average_over}s, n - 1 in the denominator")
    methods = {str(c.interval["method"]) for c in report.cells if c.interval}
    notes += [f"interval: {method}" for method in sorted(methods)]
    tolerance = report.sweep.published.get("tolerance")
    if tolerance is not None:
        notes.append(
            f"verdict: within tolerance is at most {report.form.value(tolerance)} from the "
            f"published mean"
        )
    return notes


def run_table(report: Report) -> list[list[str]]:
    """Header and a row for each finished run, without the columns that none has a value for."""
    return without_empty_columns(_run_rows(report), _run_header(report))


def _run_header(report: Report) -> list[str]:
    """Names of the columns of `_run_rows`."""
    score = f"{report.sweep.metric}{report.form.unit}"
    baseline = [label] if (label := baseline_label(report)) else []
    return ["run", score, *baseline, "best epoch", "attempts", "took", "peak memory", "on"]


def _run_rows(report: Report) -> Iterator[list[str]]:
    """A row for each finished run: what it scored and what it used."""
    metric, baseline = report.sweep.metric, report.sweep.manifest.baseline
    for run in report.sweep.runs:
        result = report.results.get(run.run_id)
        if result is None:
            continue
        used = report.usage.get(run.run_id)
        yield [
            run.run_id,
            _score(report, run, result.metrics[metric]),
            *([_value(report, _detail(result, baseline.details).get(metric))] if baseline else []),
            str(_detail(result, "best").get("epoch", MISSING)),
            str(used.num_attempts if used else result.attempt),
            duration(used.hours) if used else MISSING,
            _peak_memory(result),
            ", ".join(used.hosts) if used else MISSING,
        ]


def _score(report: Report, run: Run, value: float) -> str:
    view = report.document["results"].get(run.cell, {})
    part = part_text(view, str(run.axes[report.sweep.average_over]), report.sweep.metric)
    return with_part(report.form.value(value), part)


def resources_used(report: Report) -> list[str]:
    """Device hours over all attempts, wall hours, peak memory."""
    hours: dict[str, float] = {}
    for used in report.usage.values():
        for kind, amount in used.device_hours.items():
            hours[kind] = hours.get(kind, 0.0) + amount
    names = {"cuda": "GPU hours", "cpu": "CPU slot hours"}
    lines = [f"{names.get(kind, kind)}: {amount:.2f}" for kind, amount in sorted(hours.items())]
    attempts = sum(used.num_attempts for used in report.usage.values())
    if attempts:
        lines.append(f"attempts: {attempts} of {len(report.usage)} runs, failed ones counted")
    for kind in ("device", "host"):
        peaks = [p for r in report.results.values() if (p := _peak(r, kind)) is not None]
        if peaks:
            lines.append(f"peak memory ({kind}): {max(peaks) / 1024:.2f} GiB in one process")
    return lines


def provenance(report: Report) -> list[str]:
    """What the numbers were made with; several values where the runs differ."""
    results = report.results.values()
    lines = [
        line
        for name in report.sweep.manifest.report.provenance
        if (line := _values(name, (r.details[name] for r in results if name in r.details)))
    ]
    lines += _code_lines(results)
    plan = report.sweep.code.get("git_commit")
    planned = f"planned with commit: {plan}{changes_text(report.sweep.code)}"
    return lines + ([planned] if plan else [])


def _code_lines(results: Collection[Result]) -> Iterator[str]:
    for name in ("version", "source"):
        if line := _values(f"code {name}", (r.code[name] for r in results if r.code.get(name))):
            yield line
    commits = (
        f"{r.code['git_commit']}{changes_text(r.code)}" for r in results if r.code.get("git_commit")
    )
    if line := _values("code git_commit", commits):
        yield line
    for result in results:
        for code in result.earlier_code:
            numbers = ", ".join(map(str, code["attempts"]))
            yield f"code of attempt {numbers} of {result.run_id}: {code_text(code)}"


def _values(name: str, values: Iterable[Any]) -> str:
    # All values, so that a sweep over two versions shows both.
    texts = sorted({str(value) for value in values})
    return f"{name}: {', '.join(texts)}" if texts else ""


def _entry(report: Report, column: str, value: float | None) -> Entry:
    if value is None or not is_finite_number(value):
        return Entry(MISSING)
    return Entry(report.form.value(value), column, value)


def _value(report: Report, value: Any) -> str:  # noqa: ANN401
    return report.form.value(value) if is_finite_number(value) else MISSING


def interval_text(report: Report, cell: Cell) -> str:
    """`70.1 to 72.3`, or a dash."""
    if not cell.interval:
        return MISSING
    return " to ".join(_value(report, cell.interval.get(end)) for end in ("low", "high"))


def _detail(result: Result, name: str) -> Mapping[str, Any]:
    entry = result.details.get(name)
    return entry if isinstance(entry, dict) else {}


def _peak(result: Result, kind: str) -> float | None:
    value = _detail(result, "peak_memory_mb").get(kind)
    return value if is_finite_number(value) else None


def _peak_memory(result: Result) -> str:
    for kind in ("device", "host"):
        peak = _peak(result, kind)
        if peak is not None:
            return f"{peak / 1024:.2f} GiB"
    return MISSING
