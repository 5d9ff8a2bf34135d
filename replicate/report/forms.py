"""The report as HTML, Markdown and LaTeX: a template and an escaping function for each. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from replicate.report import facts
from replicate.report.content import Report, Verdict
from replicate.report.escaping import (
    html_text,
    latex_text,
    markdown_path,
    markdown_text,
    one_line,
)
from replicate.report.figures import heat_map, learning_curves
from replicate.report.paper_table import (
    Block,
    PaperTable,
    column_names,
    grouped_names,
    paper_table,
    shown_values,
)
from replicate.report.series import series_table
from replicate.report.settings import MISSING, differing_settings, further_metrics
from replicate.views.evaluations import evaluation_label, evaluation_rows
from replicate.views.table import some

TEMPLATES = Path(__file__).parent / "templates"

_LATEX_TAGS: Mapping[str, Any] = {
    # The default tags are full of braces, which LaTeX uses itself.
    "block_start_string": "<%",
    "block_end_string": "%>",
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
}


def html_report(report: Report) -> str:
    """One page with style and pictures inside: no script, no request, for print and dark mode."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return _render(
        "report.html",
        report,
        style=Markup(style),
        figures=(
            ("Each run", heat_map(report)),
            ("Learning curves", learning_curves(report)),
        ),
    )


def markdown_report(report: Report) -> str:
    """One Markdown text; pictures are linked relative to the output folder."""
    return _render("report.md", report)


def latex_report(report: Report) -> str:
    """A `table*` for a document that loads booktabs; missing values are dashes."""
    table = paper_table(report)
    return _render(
        "report.tex",
        report,
        caption=_caption(report, table),
        label=re.sub(r"[^A-Za-z0-9-]+", "-", report.sweep.study),
    )


def _render(name: str, report: Report, **more: object) -> str:
    template = _environment(name).get_template(f"{name}.jinja")
    notes, words = facts.cell_notes(report), report.sweep.manifest.report
    return template.render(
        report=report,
        title=report.sweep.title or report.sweep.study,
        facts=facts,
        cell_notes=notes,
        remarks=[*report.warnings, *notes],
        resources=facts.resources_used(report),
        provenance=facts.provenance(report),
        table=paper_table(report),
        runs=facts.run_table(report),
        tables=(
            ("Settings that differ", differing_settings(report)),
            ("Further metrics", further_metrics(report)),
            *_series_tables(report),
            *_evaluation_tables(report),
        ),
        # Plans of older versions and commands have no words of their own.
        panels_title=words.panels_title or "Pictures",
        panels_alt=words.panels_show or "pictures",
        **more,
    )


def _series_tables(report: Report) -> list[tuple[str, list[list[str]]]]:
    words = report.sweep.manifest.report.series
    return [(words.title, series_table(report))] if words else []


def _evaluation_tables(report: Report) -> list[tuple[str, list[list[str]]]]:
    return [
        (f"Evaluated again: {evaluation_label(merged.sweep)}", evaluation_rows(merged))
        for merged in report.evaluations.values()
        if merged.document["results"]
    ]


@cache
def _environment(name: str) -> Environment:
    escape = {"report.html": html_text, "report.md": markdown_text, "report.tex": latex_text}[name]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        # With this, macros return Markup; what escapes is `finalize`, which each form brings.
        autoescape=True,
        finalize=_finalizer(escape),
        # A misspelled name in a template is an error, not an empty place in a report.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **(_LATEX_TAGS if name == "report.tex" else {}),
    )
    environment.filters |= {
        "base64": lambda data: base64.b64encode(data).decode("ascii"),
        "link_target": lambda path: Markup(markdown_path(path)),
        "comment": lambda text: Markup(one_line(text)),
    }
    environment.globals |= {
        "column_names": column_names,
        "grouped_names": grouped_names,
        "method_rows": _method_rows,
        "shown_values": shown_values,
    }
    return environment


def _finalizer(escape: Callable[[str], str]) -> Callable[[Any], Markup]:
    """Escapes each value that a template writes, so that no template can forget to."""

    def finalize(value: object) -> Markup:
        return value if isinstance(value, Markup) else Markup(escape(str(value)))

    return finalize


def _method_rows(report: Report, block: Block) -> list[list[str]]:
    return [
        [row.method, *(text or MISSING for text, _ in shown_values(report, block, row))]
        for row in block.rows
    ]


def _caption(report: Report, table: PaperTable) -> str:
    incomplete = [c.name for c in report.cells if c.mean is None]
    partial = [c.name for c in report.cells if c.verdict is Verdict.PARTIAL]
    text = f"{report.sweep.title or report.sweep.study}: {report.sweep.metric}{report.form.unit}"
    text += f"{report.form.direction}."
    if incomplete:
        text += f" Incomplete, so without a mean: {some(incomplete, 8)}."
    others = [c.name for c in report.cells if c.verdict is Verdict.OTHER_VALUES]
    if others:
        text += f" Not over the same {report.sweep.average_over} as published: {some(others, 8)}."
    if partial:
        text += f" Means over a part, not comparable with published ones: {some(partial, 8)}."
    if report.failures:
        text += f" {report.failures}."
    if any(len(block.rows) > 1 for block in table.blocks):
        text += " Best in bold."
    return text
