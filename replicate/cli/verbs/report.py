"""`replicate report OUT`: table, runs and provenance as Markdown, HTML, LaTeX and CSV."""

from __future__ import annotations

import argparse
from pathlib import Path

from replicate import api
from replicate.report.gather import FORMS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUT", help="output folder")
    parser.add_argument(
        "--forms",
        default=",".join(FORMS),
        metavar="FORM,FORM",
        help="formats to write as OUT/report.FORM: md, html, tex, csv (default: all)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """0: every form is written, its path printed."""
    forms = [form.strip() for form in arguments.forms.split(",") if form.strip()]
    for path in api.report(arguments.output, forms=forms).values():
        print(path)
    return 0
