"""Evaluations beside the table of their trainings: rows of their own, never in its place. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from merge.records.sweep import Sweep
from merge.results.combine import Merged
from replicate.views.columns import align
from replicate.views.table import MISSING, format_of, notes, table_rows


def evaluation_label(sweep: Sweep) -> str:
    """What an evaluation changes, and which checkpoint it tests."""
    kinds = {run.checkpoint.which: run.checkpoint.file for run in sweep.runs if run.checkpoint}
    models = [file if which == "file" else f"{which} checkpoint" for which, file in kinds.items()]
    changes = [f"{key} {value}" for key, value in sweep.settings.items()]
    return f"{', '.join(changes) or 'own settings'} ({', '.join(models)})"


def evaluation_rows(merged: Merged) -> list[list[str]]:
    """Header and a row a cell that has a result: values, mean, deviation, interval."""
    cells = merged.document["results"]
    header, *rows = table_rows(merged.sweep, merged.document, cells=list(cells))
    return [[*header, "95% interval"], *([*row, _interval(merged, row[0])] for row in rows)]


def evaluation_lines(evaluations: Mapping[str, Merged]) -> list[str]:
    """All evaluations as text, each with a heading, its table and what a reader must know."""
    lines: list[str] = []
    for name, merged in evaluations.items():
        done = sum(view["n"] for view in merged.document["results"].values())
        total = sum(run.in_table for run in merged.sweep.runs)
        lines += [
            "",
            f"evaluation {name}: {evaluation_label(merged.sweep)}, {done} of {total} runs",
        ]
        if merged.document["results"]:
            lines += align(evaluation_rows(merged))
        # That a cell lacks runs, its row says.
        lines += [note for note in notes(merged.document) if not note.startswith("incomplete")]
    return lines


def _interval(merged: Merged, cell: str) -> str:
    found = merged.document["results"][cell].get("ci")
    if found is None:
        return MISSING
    form = format_of(merged.sweep)
    return f"{form.value(found['low'])} to {form.value(found['high'])}"
