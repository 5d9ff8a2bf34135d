"""The report's tables and lists as text, for every form that shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from merge.records.records import Result
from merge.storage.json_files import is_finite_number
from replicate.report.content import Cell, Report
from replicate.views.table import duration

MISSING = "–"

_PROVENANCE = (
    *("protocol", "pair_list", "test_seeds", "test_episodes", "eval_size", "mask_variant"),
    *("weights", "data_fingerprint", "global_batch", "device", "torch"),
)
_CODE = ("version", "source", "git_commit")


def summary(report: Report) -> str:
    """How much of the table is there, and what stands beside it."""
    complete = sum(cell.mean is not None for cell in report.cells)
    text = f"{complete} of {len(report.cells)} cells are complete."
    source = report.sweep.published.get("source")
    return f"{text} Published numbers: {source}." if source else text


def has_intervals(report: Report) -> bool:
    return any(cell.interval for cell in report.cells)


def has_untrained(report: Report) -> bool:
    return any(cell.untrained is not None for cell in report.cells)


def comparison_header(report: Report) -> list[str]:
    """Names of the columns of `comparison_rows`."""
    return [
        f"{report.sweep.metric}{report.form.unit}",
        *(f"{report.sweep.average_over} {name}" for name in report.columns),
        *("mean", "std", "n"),
        *(["95% interval"] if has_intervals(report) else []),
        *(["untrained"] if has_untrained(report) else []),
        *("published", "difference", "verdict"),
    ]


def comparison_rows(report: Report) -> Iterator[list[str]]:
    """Header, then a row a cell: ours, published, difference, verdict."""
    form = report.form
    yield comparison_header(report)
    for cell in report.cells:
        values = [_value(report, cell.values.get(name)) for name in report.columns]
        counted = f"{len(cell.values)}/{len(cell.needed)}"
        row = [cell.name, *values, _value(report, cell.mean), _value(report, cell.std), counted]
        row += [interval_text(report, cell)] if has_intervals(report) else []
        row += [_value(report, cell.untrained)] if has_untrained(report) else []
        difference = cell.difference
        yield [
            *row,
            _value(report, cell.published.get("mean")),
            MISSING if difference is None else form.difference(difference),
            cell.verdict.value,
        ]


def cell_notes(report: Report) -> list[str]:
    """What must be known of a published number, a deviation, an interval or a verdict."""
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


def run_rows(report: Report) -> Iterator[list[str]]:
    """Header, then a row a finished run: what it scored and what it used."""
    metric = report.sweep.metric
    header = ["run", f"{metric}{report.form.unit}", "untrained", "best epoch", "attempts"]
    yield [*header, "took", "peak memory", "on"]
    for run in report.sweep.runs:
        result = report.results.get(run.run_id)
        if result is None:
            continue
        used = report.usage.get(run.run_id)
        yield [
            run.run_id,
            report.form.value(result.metrics[metric]),
            _value(report, _entry(result, "untrained").get(metric)),
            str(_entry(result, "best").get("epoch", MISSING)),
            str(used.num_attempts if used else result.attempt),
            duration(used.hours) if used else MISSING,
            _peak_memory(result),
            ", ".join(used.hosts) if used else MISSING,
        ]


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
        for name in _PROVENANCE
        if (line := _values(name, (r.details[name] for r in results if name in r.details)))
    ]
    lines += [
        line
        for name in _CODE
        if (line := _values(f"code {name}", (r.code[name] for r in results if r.code.get(name))))
    ]
    plan = report.sweep.code.get("git_commit")
    return lines + ([f"planned with commit: {plan}"] if plan else [])


def _values(name: str, values: Iterable[Any]) -> str:
    texts = sorted({str(value) for value in values})
    return f"{name}: {', '.join(texts)}" if texts else ""


def _value(report: Report, value: Any) -> str:  # noqa: ANN401
    return report.form.value(value) if is_finite_number(value) else MISSING


def interval_text(report: Report, cell: Cell) -> str:
    """`70.1 to 72.3`, or a dash."""
    if not cell.interval:
        return MISSING
    return " to ".join(_value(report, cell.interval.get(end)) for end in ("low", "high"))


def _entry(result: Result, name: str) -> Mapping[str, Any]:
    entry = result.details.get(name)
    return entry if isinstance(entry, dict) else {}


def _peak(result: Result, kind: str) -> float | None:
    value = _entry(result, "peak_memory_mb").get(kind)
    return value if is_finite_number(value) else None


def _peak_memory(result: Result) -> str:
    for kind in ("device", "host"):
        peak = _peak(result, kind)
        if peak is not None:
            return f"{peak / 1024:.2f} GiB"
    return MISSING
