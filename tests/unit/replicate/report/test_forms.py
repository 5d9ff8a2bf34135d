"""Every form of the report shows the merged numbers, and never a mean that is none."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.grids import make_grid, make_result, write_sweep

from merge.records.sweep import Sweep
from merge.results.collect import Collected
from merge.results.combine import combine
from merge.results.view import rebuild_with_results
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from replicate.report.content import Report, Usage, Verdict, judge_mean, make_report
from replicate.report.csv_rows import csv_report
from replicate.report.escaping import latex_text
from replicate.report.figures import heat_map, learning_curves
from replicate.report.forms import TEMPLATES, html_report, latex_report, markdown_report
from replicate.report.gather import read_report
from replicate.report.paper_table import paper_table

CELL = "pascal5i_resnet50_1shot"
PUBLISHED = {
    "source": "table 1",
    "method": "PAPER",
    "cells": {CELL: {"0": 0.70, "1": 0.70, "mean": 0.70}},
    "others": {"OLDER": {CELL: {"mean": 0.60}}, "ELSEWHERE": {"another": {"mean": 0.9}}},
    "tolerance": 0.01,
    "notes": {CELL: "as printed"},
}


def report_of(sweep: Sweep, values: dict[str, float], history: bool = False) -> Report:
    details = {"history": [{"epoch": e, "miou": e / 10} for e in (1, 2, 3)]} if history else {}
    results = {
        run.run_id: make_result(run, values[run.run_id], details=details)
        for run in sweep.runs
        if run.run_id in values
    }
    collected = Collected(sweep=sweep, results=results, problems=(), aside=())
    usage = {
        name: Usage(hours=1.5, device_hours={"cuda": 3.0}, num_attempts=2, hosts=("a", "b"))
        for name in results
    }
    merged = combine({"out": collected})
    return make_report(merged, results, usage, (), ("mind the gap",))


def two_folds(second: float | None, published: dict[str, object] | None = None) -> Report:
    sweep = make_grid(cells=(CELL, "empty"), folds=(0, 1), published=published)
    values = {f"{CELL}-fold0": 0.712}
    if second is not None:
        values[f"{CELL}-fold1"] = second
    return report_of(sweep, values, history=True)


@pytest.mark.parametrize(
    ("mean", "published", "verdict"),
    [
        (None, 0.7, Verdict.INCOMPLETE),
        (0.7, None, Verdict.NOT_PUBLISHED),
        (0.71, 0.70, Verdict.WITHIN),
        (0.69, 0.70, Verdict.WITHIN),
        (0.7101, 0.70, Verdict.ABOVE),
        (0.6899, 0.70, Verdict.BELOW),
    ],
)
def test_a_verdict_follows_the_tolerance(
    mean: float | None, published: float | None, verdict: Verdict
) -> None:
    assert judge_mean(mean, published, 0.01) is verdict


@pytest.mark.parametrize("render", [markdown_report, html_report, latex_report])
def test_a_mean_over_missing_folds_is_in_no_form(render: Callable[[Report], str]) -> None:
    text = render(two_folds(None, PUBLISHED))
    ours = re.split(r"\bours(?:</th>| [|&])", text)[1]
    assert re.findall(r"\d+\.\d|–|--", ours)[:3] in (["71.2", "–", "–"], ["71.2", "--", "--"])


def test_a_complete_cell_stands_beside_the_paper_and_other_methods() -> None:
    report = two_folds(0.708, PUBLISHED)
    (cell, empty) = report.cells
    assert (cell.mean, cell.difference) == (pytest.approx(0.71), pytest.approx(0.01))
    assert (cell.verdict, empty.verdict) == (Verdict.WITHIN, Verdict.INCOMPLETE)
    block = next(b for b in paper_table(report).blocks if len(b.rows) > 1)
    assert [row.method for row in block.rows] == ["OLDER", "PAPER (paper)", "ours"]
    text = markdown_report(report)
    assert "| 71.0 |" in text
    assert "+1.0 | within tolerance" in text
    assert "as printed" in text
    assert "mind the gap" in text


def test_an_interval_says_its_method() -> None:
    text = markdown_report(two_folds(0.708, PUBLISHED))
    interval = two_folds(0.708, PUBLISHED).cells[0].interval
    assert interval is not None
    low, high = (f"{100 * interval[end]:.1f}" for end in ("low", "high"))
    assert f"| {low} to {high} |" in text
    assert f"interval: {interval['method']}" in text
    assert f"<td>{low} to {high}</td>" in html_report(two_folds(0.708, PUBLISHED))


def test_the_best_of_each_column_is_bold_in_latex_and_html() -> None:
    report = two_folds(0.708, PUBLISHED)
    assert r"ours & \textbf{71.2} & \textbf{70.8} & \textbf{71.0}" in latex_report(report)
    assert r"PAPER (paper) & 70.0" in latex_report(report)
    assert html_report(report).count("<strong>") == 3


def test_where_less_is_better_the_least_is_bold() -> None:
    sweep = replace(make_grid(folds=(0, 1), published=PUBLISHED), goal="min")
    text = latex_report(report_of(sweep, {f"{CELL}-fold0": 0.712, f"{CELL}-fold1": 0.708}))
    assert r"ours & 71.2 & 70.8 & 71.0" in text
    assert r"PAPER (paper) & \textbf{70.0} & \textbf{70.0} & 70.0" in text


@pytest.mark.parametrize(("goal", "brighter"), [("max", "80.0"), ("min", "20.0")])
def test_the_heat_map_paints_the_better_number_brighter(goal: str, brighter: str) -> None:
    sweep = replace(make_grid(folds=(0, 1)), goal=goal)
    picture = heat_map(report_of(sweep, {f"{CELL}-fold0": 0.2, f"{CELL}-fold1": 0.8}))
    # White text stands on the dark square, black text (without a `fill`) on the bright one.
    written = re.findall(r"<text ([^>]*)>(20\.0|80\.0)</text>", picture.svg)
    assert len(written) == 2
    assert [text for style, text in written if "fill: #ffffff" not in style] == [brighter]
    assert ("lower is better" in picture.svg) is (goal == "min")


@pytest.mark.parametrize(("goal", "css_class"), [("max", "better"), ("min", "worse")])
def test_a_verdict_is_coloured_by_the_goal(goal: str, css_class: str) -> None:
    sweep = replace(make_grid(folds=(0, 1), published=PUBLISHED), goal=goal)
    page = html_report(report_of(sweep, {f"{CELL}-fold0": 0.812, f"{CELL}-fold1": 0.808}))
    assert f'<td class="verdict {css_class}">above ({css_class})</td>' in page


@pytest.mark.parametrize(("ended", "hours"), [(7200.0, 2.0), (None, 0.0), ("later", None)])
def test_hours_count_for_each_device_of_an_attempt(
    tmp_path: Path, ended: object, hours: float | None
) -> None:
    sweep = make_grid(folds=(0,))
    write_sweep(tmp_path, sweep)
    paths = SweepPaths(tmp_path).run(sweep.runs[0].path)
    owner = {"host": "a", "pid": 1, "pid_started": "", "boot_id": ""}
    attempt = {"number": 1, "token": "t", "owner": owner, "command": [], "device": "cuda"}
    attempt |= {"devices": ["0", "1"], "started": 0.0, "ended": ended, "code": {}}
    claim = {"number": 1, "token": "t", "owner": owner, "heartbeat": 0.0}
    write_json(paths.claim(1), {"schema": 1, **claim})
    write_json(paths.attempt(1).record, {"schema": 1, "outcome": None, **attempt})
    used = read_report(tmp_path, *rebuild_with_results(tmp_path)).usage.get(sweep.runs[0].run_id)
    if hours is None:
        assert used is None
    else:
        assert used
        assert (used.hours, used.device_hours) == (hours, {"cuda": 2 * hours})


def test_the_last_axis_with_few_values_makes_groups_of_columns() -> None:
    from replicate import api

    planned = api.plan("abcb")
    report = report_of(planned.sweep, {planned.runs[0].run_id: 0.7})
    table = paper_table(report)
    assert table.groups == ("shot 1", "shot 5")
    assert table.columns == ("0", "1", "2", "3", "mean")
    labels = [block.label for block in table.blocks]
    assert labels == [
        f"dataset {d}, backbone {b}"
        for d in ("pascal5i", "coco20i")
        for b in ("resnet50", "resnet101")
    ]
    assert [row.method for row in table.blocks[0].rows][-2:] == ["ABCB (paper)", "ours"]
    assert {len(row.values) for block in table.blocks for row in block.rows} == {10}
    assert table.blocks[0].rows[-1].values == (0.7, *[None] * 9)


def test_csv_has_a_row_for_every_run_of_the_table_done_or_not() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_report(two_folds(None, PUBLISHED)))))
    assert [row["run_id"] for row in rows] == [
        f"{c}-fold{f}" for c in (CELL, "empty") for f in (0, 1)
    ]
    assert [row["miou"] for row in rows] == ["0.712", "", "", ""]
    assert [row["run_published"] for row in rows] == ["0.7", "0.7", "", ""]
    assert rows[0]["run_attempts"] == "2"


def test_the_header_of_csv_starts_no_formula() -> None:
    sweep = make_grid(folds=(0,))
    (run,) = sweep.runs
    result = make_result(run, 0.5)
    result = replace(result, metrics={**result.metrics, "=1+1": 0.5})
    collected = Collected(sweep=sweep, results={run.run_id: result}, problems=(), aside=())
    report = make_report(combine({"out": collected}), collected.results, {}, (), ())
    header = next(csv.reader(io.StringIO(csv_report(report))))
    assert "'=1+1" in header
    assert "=1+1" not in header


def test_the_page_asks_for_nothing_and_carries_exact_values() -> None:
    page = html_report(two_folds(0.708, PUBLISHED))
    addresses = re.findall(r'(?:src|href|url\()="?([^")]+)', page)
    assert addresses
    assert all(a.startswith(("data:", "#", "curves-", "heat-")) for a in addresses), addresses
    assert "<script" not in page
    assert f'data-cell="{CELL}" data-column="0" data-value="0.712"' in page
    assert "@media screen and (prefers-color-scheme: dark)" in page, "paper is always light"
    assert "@media print" in page


def test_names_of_a_study_are_text_and_nothing_else() -> None:
    hostile = "<img src=x onerror=alert(1)>|a&b\\_%"
    sweep = make_grid(cells=(hostile,), folds=(0, 1))
    report = report_of(sweep, {f"{hostile}-fold0": 0.5})
    assert "<img src=x" not in html_report(report)
    assert "<img" not in markdown_report(report)
    assert r"\|a&b" in markdown_report(report)
    assert latex_text(hostile) in latex_report(report)
    assert latex_text("a_b 50% {x} \\y") == r"a\_b 50\% \{x\} \textbackslash{}y"


def test_dollars_in_names_are_no_formula() -> None:
    sweep = make_grid(cells=(r"$\frac$",), folds=(0, 1))
    report = report_of(sweep, {r"$\frac$-fold0": 0.5, r"$\frac$-fold1": 0.6}, history=True)
    for figure in (heat_map(report), learning_curves(report)):
        assert figure is not None
        assert r"$\frac$" in figure.svg


def test_epochs_are_counted_in_whole_numbers() -> None:
    sweep = make_grid(folds=(0,))
    result = make_result(sweep.runs[0], 0.5, details={"history": [{"epoch": 2, "miou": 0.5}]})
    collected = Collected(sweep=sweep, results={result.run_id: result}, problems=(), aside=())
    merged = combine({"out": collected})
    figure = learning_curves(make_report(merged, collected.results, {}, (), ()))
    assert figure is not None
    axis = figure.svg[: figure.svg.index('id="curves-matplotlib.axis_2"')]
    assert set(re.findall(r">([\d.−]+)</text>", axis)) <= set("0123456789")


def test_deviation_interval_and_tolerance_say_what_they_are() -> None:
    for render in (markdown_report, html_report):
        text = render(two_folds(0.708, PUBLISHED))
        assert "std: over folds, n - 1 in the denominator" in text
        assert "within tolerance is at most 1.0 from the published mean" in text


def test_the_latex_table_can_be_referred_to_and_says_what_bold_is() -> None:
    text = latex_report(two_folds(0.708, PUBLISHED))
    assert r"\label{tab:test}" in text
    assert "Best in bold." in text
    assert "bold" not in latex_report(two_folds(0.708))


def test_figures_are_the_same_bytes_for_the_same_results() -> None:
    first, second = (two_folds(0.708, PUBLISHED) for _ in range(2))
    assert html_report(first) == html_report(second)
    curves = learning_curves(first)
    assert curves is not None
    assert "currentColor" in curves.svg
    assert heat_map(two_folds(0.7)) is not None


def test_a_sweep_without_results_has_a_report_without_figures() -> None:
    report = report_of(make_grid(), {})
    assert (heat_map(report), learning_curves(report)) == (None, None)
    assert "0 of 1 cells are complete" in markdown_report(report)
    assert "0 of 1 cells are complete" in html_report(report)


def test_templates_are_installed_with_the_package() -> None:
    import replicate

    assert replicate.__file__
    assert TEMPLATES.is_relative_to(Path(replicate.__file__).parent)
    names = {path.name for path in TEMPLATES.iterdir()}
    assert names == {"report.css", *(f"report.{form}.jinja" for form in ("html", "md", "tex"))}


def test_figures_of_a_large_sweep_show_some_cells_and_say_how_many() -> None:
    cells = tuple(f"cell{number:03d}" for number in range(101))
    sweep = make_grid(cells=cells, folds=(0,))
    report = report_of(sweep, {run.run_id: 0.5 for run in sweep.runs}, history=True)
    heat, curves = heat_map(report), learning_curves(report)
    assert heat
    assert curves
    assert ("cell099" in heat.svg, "cell100" in heat.svg) == (True, False)
    assert ("cell031" in curves.svg, "cell032" in curves.svg) == (True, False)
    page = html_report(report)
    assert "shown: the first 100 of 101 cells; the tables have all of them" in page
    assert "shown: the first 32 of 101 cells; the tables have all of them" in page
    assert page.count('data-column="mean"') == 101
