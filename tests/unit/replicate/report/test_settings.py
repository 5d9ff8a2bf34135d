"""What a report tells of the cells beside their number, without columns that say nothing."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.grids import make_grid, make_result, write_sweep

from merge.records.result import Result
from merge.records.sweep import Run, Sweep
from merge.results.collect import Collected
from merge.results.combine import combine
from merge.storage.paths import RunPaths, SweepPaths
from replicate.report.content import Report, make_report
from replicate.report.csv_rows import csv_report
from replicate.report.event_curves import read_event_curves
from replicate.report.figures import learning_curves
from replicate.report.forms import html_report, latex_report, markdown_report
from replicate.report.gather import read_report
from replicate.report.settings import differing_settings, further_metrics


def with_config(run: Run, **config: object) -> Run:
    return replace(run, config={**run.config, **config})


def report_of(sweep: Sweep, results: dict[str, Result]) -> Report:
    collected = Collected(sweep=sweep, results=results, problems=(), aside=())
    return make_report(combine({"out": collected}), results, {}, (), ())


def two_rates(**metrics: float) -> Report:
    """Cells `slow` and `fast`, folds 0 and 1, with further metrics."""
    sweep = make_grid(cells=("slow", "fast"), folds=(0, 1))
    rates = {"slow": 0.01, "fast": 0.1}
    runs = tuple(with_config(run, lr=rates[run.cell], steps=10) for run in sweep.runs)
    sweep = replace(sweep, runs=runs)
    values = {"miou": 0.5, **metrics}
    results = {run.run_id: make_result(run, 0.5, metrics=dict(values)) for run in runs}
    return report_of(sweep, results)


def test_settings_that_differ_between_cells_stand_in_every_page_and_no_others():
    report = two_rates()
    assert differing_settings(report) == [
        ["cell", "cell", "lr"],
        ["slow", "slow", "0.01"],
        ["fast", "fast", "0.1"],
    ]
    for render in (markdown_report, html_report):
        assert "Settings that differ" in render(report)
        assert "steps" not in render(report)


def test_cells_that_differ_in_nothing_have_no_such_table():
    sweep = make_grid(cells=("one",), folds=(0, 1))
    assert differing_settings(report_of(sweep, {})) == []


def test_every_metric_of_a_study_is_shown_with_its_spread():
    report = two_rates(loss=0.25)
    header, slow, fast = further_metrics(report)
    assert header == ["cell", "loss"]
    assert (slow, fast) == (["slow", "0.25 ± 0"], ["fast", "0.25 ± 0"])
    assert "0.25 ± 0" in markdown_report(report)
    assert further_metrics(two_rates()) == []


def test_a_further_metric_of_a_single_run_has_no_spread():
    sweep = make_grid(folds=(0,))
    results = {r.run_id: make_result(r, 0.5, metrics={"miou": 0.5, "nss": 2.5}) for r in sweep.runs}
    assert further_metrics(report_of(sweep, results))[1:] == [["pascal5i_resnet50_1shot", "2.5"]]


def test_a_column_without_any_value_is_not_shown():
    text = markdown_report(two_rates())
    for name in ("best epoch", "peak memory", "published", "difference", "verdict", "took"):
        assert name not in text
    assert "attempts" in text


def test_groups_of_the_latex_table_name_their_axis():
    report = two_rates()
    assert r"\emph{cell slow}" in latex_report(report) or "cell slow" in latex_report(report)


@pytest.mark.parametrize("name", ["hours", "run_hours", "cell", "run_id", "run_run_hours"])
def test_a_metric_with_the_name_of_another_column_has_a_column_of_its_own(name):
    report = two_rates(**{name: 7.25})
    rows = list(csv.reader(io.StringIO(csv_report(report))))
    header = rows[0]
    assert len(set(header)) == len(header)
    column = header.index(name if name in ("hours", "run_run_hours") else f"metric_{name}")
    assert {row[column] for row in rows[1:]} == {"7.25"}
    assert len({len(row) for row in rows}) == 1


EVENTS = [{"event": "step", "step": n, "loss": 1 / n} for n in (1, 2, 3)]


def write_events(output: Path, run: Run, number: int, events: list[dict[str, object]]) -> None:
    paths = RunPaths(output / run.path)
    paths.attempt(number).root.mkdir(parents=True)
    text = "".join(json.dumps(event) + "\n" for event in events)
    paths.attempt(number).events.write_text(f"not json\n{text}")
    paths.claim(number).write_text("{}")


def test_the_events_of_a_command_are_its_curves_over_all_attempts(tmp_path):
    sweep = make_grid(cells=("a",), folds=(0,))
    (run,) = sweep.runs
    write_events(tmp_path, run, 1, EVENTS)
    write_events(tmp_path, run, 2, [{"step": 3, "loss": 0.3}, {"step": 4, "loss": 1e200}])
    (curve,) = read_event_curves(tmp_path, sweep, sweep.runs).values()
    assert (curve.name, curve.over) == ("loss", "step")
    assert curve.points == ((1, 1.0), (2, 0.5), (3, 0.3))


def test_the_studys_metric_is_drawn_before_the_loss_and_over_epochs(tmp_path):
    sweep = make_grid(cells=("a",), folds=(0,))
    (run,) = sweep.runs
    events = [{"epoch": n, "step": 9 * n, "miou": n / 10, "loss": 1.0} for n in range(1, 2000)]
    write_events(tmp_path, run, 1, events)
    (curve,) = read_event_curves(tmp_path, sweep, sweep.runs).values()
    assert (curve.name, curve.over) == ("miou", "epoch")
    assert 100 < len(curve.points) <= 401
    assert (curve.points[0], curve.points[-1]) == ((1, 0.1), (1999, 199.9))


def test_a_report_of_a_command_shows_the_curves_of_its_events(tmp_path):
    sweep = make_grid(cells=("a",), folds=(0,))
    write_sweep(tmp_path, sweep)
    (run,) = sweep.runs
    write_events(tmp_path, run, 1, EVENTS)
    results = {run.run_id: make_result(run, 0.5)}
    collected = Collected(sweep=sweep, results=results, problems=(), aside=())
    report = read_report(tmp_path, combine({"out": collected}), results)
    picture = learning_curves(report)
    assert picture is not None
    assert ">loss</text>" in picture.svg
    assert ">step</text>" in picture.svg
    assert SweepPaths(tmp_path).sweep.exists()
