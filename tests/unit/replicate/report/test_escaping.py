"""Names, notes and errors that others wrote are text in every form, and do nothing."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
from support.grids import make_grid, make_result

from merge.results.collect import Collected
from merge.results.combine import combine
from replicate.report.content import Panel, Report, Usage, make_report
from replicate.report.csv_rows import csv_report
from replicate.report.escaping import (
    csv_text,
    html_text,
    latex_text,
    markdown_path,
    markdown_text,
    one_line,
)
from replicate.report.forms import html_report, latex_report, markdown_report

RENDERERS = (html_report, markdown_report, latex_report, csv_report)

HOSTILE = (
    "a|b",
    "a\\|b",
    "<script>alert(1)</script>",
    "</style></title><script>alert(1)</script>",
    "\" onload='alert(1)",
    "$x_1^2$ #1 ~ {y} 50% \\input{/etc/passwd}",
    "red\x1b[31m\x07\x9b",
    "user\u202egnp.exe\u2066",
    "two\nlines\n\\end{table*}",
    "half\ud800",
    "[link](javascript:alert(1)) ![](http://example.org/pixel)",
    "{{ 7 * 7 }} {% raw %} << 7 >> <% set a = 1 %>",
    "[12] method",
    "=HYPERLINK(1)",
)


def report_named(text: str) -> Report:
    """A report in which `text` stands wherever text of others does."""
    published = {
        "source": text,
        "method": text,
        "cells": {text: {"mean": 0.5}},
        "others": {f"{text} too": {text: {"mean": 0.6}}},
        "tolerance": 0.01,
        "notes": {text: text},
    }
    sweep = make_grid(cells=(text,), folds=(0, 1), published=published)
    sweep = replace(sweep, title=text, study=text, code={"git_commit": text})
    details = {"protocol": text, "history": [{"epoch": 1, "miou": 0.5}]}
    results = {
        run.run_id: make_result(run, 0.5, details=details, code={"version": text})
        for run in sweep.runs
    }
    usage = {
        name: Usage(hours=1.0, device_hours={text: 1.0}, num_attempts=1, hosts=(text,))
        for name in results
    }
    panel = Panel(run_id=text, path=f"{text}/p.png", data=b"jpeg")
    merged = combine({"out": Collected(sweep=sweep, results=results, problems=(), aside=())})
    return make_report(merged, results, usage, (panel,), (text,))


@cache
def rendered(render: Callable[[Report], str], text: str) -> str:
    return render(report_named(text))


class Page(HTMLParser):
    """Collects the tags and attributes of a page, and the text of its heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.heading = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        if self.tags[-1:] == ["h1"] and not self.heading:
            self.heading = data


@pytest.mark.parametrize("render", RENDERERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_no_unseen_character_is_in_any_form(render, text):
    shown = rendered(render, text)
    shown.encode("utf-8")
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_has_the_same_tags_whatever_the_names_are(text):
    plain, page = (Page(rendered(html_report, name)) for name in ("plain", text))
    ours, theirs = ([tag for tag in one.tags if tag != "g"] for one in (plain, page))
    assert sorted(set(theirs)) == sorted(set(ours))
    assert page.attributes == plain.attributes
    assert page.tags.count("th") == plain.tags.count("th")
    assert one_line(page.heading) == one_line(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_of_markdown_keeps_its_cells(text):
    def num_cells(name: str) -> list[int]:
        lines = rendered(markdown_report, name).splitlines()
        # What GFM does: a backslash and the punctuation behind it are one character.
        return [re.sub(r"\\[\\|]", "", line).count("|") for line in lines if line[:1] == "|"]

    assert num_cells(text) == num_cells("plain")
    written = rendered(markdown_report, text)
    assert len(written.splitlines()) == len(rendered(markdown_report, "plain").splitlines())
    assert "<" not in re.sub(r"\]\(<", "", written)
    assert re.findall(r"\]\((?!<)", re.sub(r"\]\(<.*>\)$", "", written, flags=re.M)) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_the_same_commands_whatever_the_names_are(text):
    def commands(name: str) -> list[str]:
        source = rendered(latex_report, name)
        body = source.partition("\n")[2]
        literal = r"\\text(backslash|asciitilde|asciicircum|less|greater|bar)\{\}|\\[&%$#_{}]"
        body = re.sub(literal, "", body)
        assert not re.search(r"[$#~^%]", body)
        return re.findall(r"\\(?:[A-Za-z]+|\\)|[{}&]", re.sub(r"\{\[\}", "", body))

    assert commands(text) == commands("plain")
    assert not re.search(r"\\\\\s*\[", rendered(latex_report, text))


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_has_a_row_for_each_run_and_no_formula(text):
    rows = list(csv.DictReader(io.StringIO(rendered(csv_report, text))))
    assert len(rows) == 2
    assert not any(row["run_cell"].startswith(("=", "+", "@")) for row in rows)


@pytest.mark.parametrize(
    ("escape", "text", "shown"),
    [
        (html_text, "<a href='x'>&\u202e", "&lt;a href=&#x27;x&#x27;&gt;&amp;\\u202e"),
        (html_text, "naïve 日本 👩‍🔬", "naïve 日本 👩‍🔬"),
        (markdown_text, "a|b\\|c\n<d", r"a\|b\\\|c &lt;d"),
        (markdown_text, "[a](b) ![c][d] [e]: f", r"[a]\(b) ![c]\[d] [e]\: f"),
        (markdown_path, "a b/<c>\n", "a b/%3Cc%3E%0A"),
        (latex_text, "*[a]", "{*}[a]"),
        (latex_text, "a\x1b_b", r"a\textbackslash{}x1b\_b"),
        (csv_text, "=1+1", "'=1+1"),
        (csv_text, "＝1+1", "'＝1+1"),
        (csv_text, "-0.5", "-0.5"),
        (csv_text, "a\nb", "a\nb"),
    ],
)
def test_each_form_has_its_own_escape(escape, text, shown):
    assert escape(text) == shown
