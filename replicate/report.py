"""The report of a sweep as Markdown: table, runs, differences, provenance, panels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from merge.collect import Collected
from merge.combine import Merged
from merge.records import Result
from merge.sweep import Run
from replicate.table import Format, format_of, notes, table_rows

_PROVENANCE = (
    *("protocol", "pair_list", "test_seeds", "test_episodes", "eval_size", "mask_variant"),
    *("weights", "data_fingerprint", "global_batch", "device"),
)


def markdown_report(merged: Merged, collected: Collected, panels: Sequence[Path]) -> str:
    """The report as one Markdown text; `panels` are paths relative to where it will lie."""
    sweep = merged.sweep
    form = format_of(sweep)
    sections = [
        f"# {sweep.title or sweep.study}",
        _summary(merged),
        "## Results",
        _markdown_table(table_rows(sweep, merged.document)),
        _bullets(notes(merged.document)),
        "## Runs",
        _markdown_table(list(_run_rows(sweep.runs, collected.results, sweep.metric, form))),
        "## Provenance",
        _bullets(_provenance(collected)),
    ]
    if panels:
        sections += ["## Test episodes: support, query, truth, prediction"]
        sections += [f"![{panel.parent.parent}]({panel.as_posix()})" for panel in panels]
    return "\n\n".join(section for section in sections if section) + "\n"


def _summary(merged: Merged) -> str:
    cells: Mapping[str, Any] = merged.document["results"]
    complete = sum(cell["complete"] for cell in cells.values())
    empty = len(merged.document["cells_without_results"])
    text = f"{complete} of {len(cells) + empty} cells are complete."
    source = merged.sweep.published.get("source")
    return f"{text} Published numbers: {source}." if source else text


def _run_rows(
    runs: Iterable[Run], results: Mapping[str, Result], metric: str, form: Format
) -> Iterable[list[str]]:
    yield ["run", metric + form.unit, "untrained", "best epoch", "minutes", "attempt"]
    for run in runs:
        result = results.get(run.run_id)
        if result is not None:
            yield [
                run.run_id,
                form.value(result.metrics[metric]),
                _number(result.details, "untrained", metric, form),
                str(_entry(result.details, "best").get("epoch", "-")),
                f"{(result.finished - result.started) / 60:.1f}",
                str(result.attempt),
            ]


def _number(details: Mapping[str, Any], name: str, metric: str, form: Format) -> str:
    value = _entry(details, name).get(metric)
    return form.value(value) if isinstance(value, int | float) else "-"


def _entry(details: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entry = details.get(name)
    return entry if isinstance(entry, dict) else {}


def _provenance(collected: Collected) -> list[str]:
    results = collected.results.values()
    lines = []
    for name in _PROVENANCE:
        values = sorted({str(r.details[name]) for r in results if name in r.details})
        if values:
            lines.append(f"{name}: {', '.join(values)}")
    for name in ("version", "source", "git_commit"):
        values = sorted({str(r.code[name]) for r in results if r.code.get(name)})
        if values:
            lines.append(f"code {name}: {', '.join(values)}")
    return lines


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *body))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)
