"""The table as LaTeX: booktabs, the best of each block in bold. Pure."""

from __future__ import annotations

import re

from replicate.report.content import Report, Verdict
from replicate.report.paper_table import Block, PaperTable, Row, column_names, paper_table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}

_MISSING = "--"


def latex_report(report: Report) -> str:
    """A `table*` for a document that loads booktabs; missing values are dashes."""
    table = paper_table(report)
    width = len(table.columns)
    spec = "l" + " ".join("c" * width for _ in table.groups)
    lines = [
        f"% {_one_line(report.sweep.title)}: \\usepackage{{booktabs}}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{_caption(report)}}}",
        rf"\label{{tab:{_label(report.sweep.study)}}}",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        *_group_header(table),
        _columns(report, table),
    ]
    for block in table.blocks:
        lines.append(r"\midrule")
        if block.label:
            span = 1 + width * len(table.groups)
            lines.append(rf"\multicolumn{{{span}}}{{l}}{{\emph{{{escape(block.label)}}}}} \\")
        lines += [_row(report, block, row) for row in block.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}"]) + "\n"


def escape(text: str) -> str:
    """`text` with every character that LaTeX reads as a command made literal."""
    return "".join(_SPECIAL.get(character, character) for character in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _caption(report: Report) -> str:
    incomplete = [c.name for c in report.cells if c.values and c.verdict is Verdict.INCOMPLETE]
    text = f"{report.sweep.title or report.sweep.study}: {report.sweep.metric}{report.form.unit}."
    if incomplete:
        text += f" Incomplete, so without a mean: {', '.join(incomplete)}."
    if any(len(block.rows) > 1 for block in paper_table(report).blocks):
        text += " Best in bold."
    return escape(text)


def _label(study: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", study)


def _group_header(table: PaperTable) -> list[str]:
    if table.groups == ("",):
        return []
    width = len(table.columns)
    heads = [rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}" for group in table.groups]
    rules = [
        rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(table.groups))
    ]
    return [" & ".join(["", *heads]) + r" \\", "".join(rules)]


def _columns(report: Report, table: PaperTable) -> str:
    return " & ".join(["method", *(escape(name) for name in column_names(report, table))]) + r" \\"


def _row(report: Report, block: Block, row: Row) -> str:
    texts = []
    for column, value in enumerate(row.values):
        if value is None:
            texts.append(_MISSING)
            continue
        text = report.form.value(value)
        best = block.best(column, goal=report.sweep.goal)
        # What is printed equal to the best is best: nobody sees more digits.
        is_best = best is not None and text == report.form.value(best)
        texts.append(rf"\textbf{{{text}}}" if is_best else text)
    return " & ".join([escape(row.method), *texts]) + r" \\"
