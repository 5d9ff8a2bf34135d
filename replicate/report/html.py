"""The report as one HTML page: no script, no request, fit for print and dark mode. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from replicate.report.content import Cell, Report, Verdict
from replicate.report.facts import (
    MISSING,
    baseline_label,
    cell_notes,
    comparison_header,
    has_intervals,
    has_untrained,
    interval_text,
    provenance,
    resources_used,
    run_rows,
    summary,
)
from replicate.report.figures import heat_map, learning_curves
from replicate.report.paper_table import Block, column_names, paper_table

STYLE = Path(__file__).parent / "page.css"

_CLASSES = {
    Verdict.WITHIN: "within",
    Verdict.ABOVE: "above",
    Verdict.BELOW: "below",
    Verdict.INCOMPLETE: "incomplete",
    Verdict.NOT_PUBLISHED: "",
}


def html_report(report: Report) -> str:
    """The whole page as text, style and pictures inside."""
    title = escape(report.sweep.title or report.sweep.study)
    body = [
        f"<h1>{title}</h1>",
        f"<p>{escape(summary(report))}</p>",
        _list(report.warnings, "warnings"),
        _section("Results", _comparison(report), _list(cell_notes(report), "notes")),
        _beside_others(report),
        _figure("Each run", heat_map(report)),
        _figure("Learning curves", learning_curves(report)),
        _section("Runs", _plain_table(list(run_rows(report)))),
        _section("Resources", _list(resources_used(report))),
        _section("Provenance", _list(provenance(report))),
        _panels(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n{''.join(part + chr(10) for part in body if part)}</body>\n</html>\n"
    )


def _comparison(report: Report) -> str:
    rows = [_comparison_row(report, cell) for cell in report.cells]
    return _wrap(_header(comparison_header(report)) + "".join(rows))


def _comparison_row(report: Report, cell: Cell) -> str:
    row = [f'<th scope="row">{escape(cell.name)}</th>']
    row += [_number(report, cell, name, cell.values.get(name)) for name in report.columns]
    row += [_number(report, cell, "mean", cell.mean), _number(report, cell, "std", cell.std)]
    row += [f"<td>{len(cell.values)}/{len(cell.needed)}</td>"]
    if has_intervals(report):
        row.append(f"<td>{interval_text(report, cell)}</td>")
    if has_untrained(report):
        row.append(_number(report, cell, baseline_label(report), cell.untrained))
    row.append(_number(report, cell, "published", cell.published.get("mean")))
    difference = cell.difference
    shown = MISSING if difference is None else report.form.difference(difference)
    row.append(f"<td>{escape(shown)}</td>")
    verdict = f'<td class="verdict {_CLASSES[cell.verdict]}">{escape(cell.verdict)}</td>'
    return f"<tr>{''.join(row)}{verdict}</tr>"


def _number(report: Report, cell: Cell, column: str, value: float | None) -> str:
    if value is None:
        return f"<td>{MISSING}</td>"
    # The exact value goes with the rounded one: whoever checks or copies a table can have it.
    where = f'data-cell="{escape(cell.name)}" data-column="{escape(column)}"'
    return f'<td {where} data-value="{value!r}">{report.form.value(value)}</td>'


def _beside_others(report: Report) -> str:
    if not report.sweep.published:
        return ""
    table = paper_table(report)
    width = len(table.columns)
    head = ""
    if table.groups != ("",):
        groups = "".join(
            f'<th colspan="{width}" scope="colgroup">{escape(group)}</th>' for group in table.groups
        )
        head = f"<tr><th></th>{groups}</tr>"
    head += _header(["method", *column_names(report, table)])
    body = "".join(_block(report, block, 1 + width * len(table.groups)) for block in table.blocks)
    return _section("Beside other methods", _wrap(head + body))


def _block(report: Report, block: Block, span: int) -> str:
    lines = []
    if block.label:
        label = escape(block.label)
        lines.append(f'<tr class="block"><th colspan="{span}" scope="rowgroup">{label}</th></tr>')
    for row in block.rows:
        cells = [
            _beside(report, value, block.best(column, goal=report.sweep.goal))
            for column, value in enumerate(row.values)
        ]
        kind = ' class="ours"' if row.is_ours else ""
        lines.append(f'<tr{kind}><th scope="row">{escape(row.method)}</th>{"".join(cells)}</tr>')
    return "".join(lines)


def _beside(report: Report, value: float | None, best: float | None) -> str:
    if value is None:
        return f"<td>{MISSING}</td>"
    text = report.form.value(value)
    is_best = best is not None and text == report.form.value(best)
    return f"<td>{f'<strong>{text}</strong>' if is_best else text}</td>"


def _plain_table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    lines = [
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in body
    ]
    return _wrap(_header(header) + "".join(lines))


def _header(names: Iterable[str]) -> str:
    return "<tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in names) + "</tr>"


def _wrap(rows: str) -> str:
    return f'<div class="scroll"><table>{rows}</table></div>'


def _list(lines: Sequence[str], kind: str = "") -> str:
    if not lines:
        return ""
    attribute = f' class="{kind}"' if kind else ""
    return f"<ul{attribute}>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _figure(title: str, svg: str | None) -> str:
    return _section(title, f'<div class="scroll">{svg}</div>') if svg else ""


def _panels(report: Report) -> str:
    words = report.sweep.manifest.report
    figures = [
        f'<figure><img alt="{escape(words.panels_show or "panels")} of {escape(panel.run_id)}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(panel.data).decode("ascii")}">'
        f"<figcaption>{escape(panel.run_id)}</figcaption></figure>"
        for panel in report.panels
    ]
    return (
        _section(words.panels or "Panels", f'<div class="panels">{"".join(figures)}</div>')
        if figures
        else ""
    )
