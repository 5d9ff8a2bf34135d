"""The report as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replicate.report.content import Report
from replicate.report.facts import (
    cell_notes,
    comparison_rows,
    provenance,
    resources_used,
    run_rows,
    summary,
)
from replicate.report.paper_table import column_names, paper_table


def markdown_report(report: Report) -> str:
    """One Markdown text; pictures are linked relative to the output folder."""
    sections = [
        f"# {_literal(report.sweep.title or report.sweep.study)}",
        _literal(summary(report)),
        "## Results",
        _table(list(comparison_rows(report))),
        _bullets([*report.warnings, *cell_notes(report)]),
        *_beside_others(report),
        "## Runs",
        _table(list(run_rows(report))),
        "## Resources",
        _bullets(resources_used(report)),
        "## Provenance",
        _bullets(provenance(report)),
    ]
    if report.panels:
        sections += [f"## {_literal(report.sweep.manifest.report.panels or 'Panels')}"]
        sections += [f"![{panel.run_id}](<{panel.path}>)" for panel in report.panels]
    return "\n\n".join(section for section in sections if section) + "\n"


def _beside_others(report: Report) -> list[str]:
    if not report.sweep.published:
        return []
    table = paper_table(report)
    groups = [group for group in table.groups for _ in table.columns]
    names = column_names(report, table)
    header = ["method", *(f"{g} {n}".strip() for g, n in zip(groups, names, strict=True))]
    sections = ["## Beside other methods"]
    for block in table.blocks:
        rows = [header]
        for row in block.rows:
            values = [report.form.value(v) if v is not None else "–" for v in row.values]
            rows.append([row.method, *values])
        sections += [f"### {_literal(block.label)}" if block.label else "", _table(rows)]
    return sections


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    rule = [":--", *["--:"] * (len(header) - 1)]
    cells = [[_literal(text) for text in row] for row in (header, *body)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:]))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"* {_literal(line)}" for line in lines)


def _literal(text: str) -> str:
    """`text` on one line, with nothing in it that ends a table's cell or starts a tag."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")
