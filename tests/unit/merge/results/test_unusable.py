"""Numbers that cannot be are kept and named, numbers too large have no mean; the others stand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.grids import make_grid, make_result, write_result, write_sweep

from merge.records.manifest import manifest_from_json
from merge.results.collect import Collected, gather
from merge.results.combine import combine
from merge.results.documents import view_bytes
from merge.results.entries import entry_of
from merge.results.outcome import exit_code
from merge.results.paired import compare
from merge.results.view import merge_views, rebuild, rebuild_with_results
from merge.storage.json_files import parse_json, read_json, write_json
from replicate.report.forms import html_report
from replicate.report.gather import read_report
from replicate.views.table import notes, results_table

NUMBER = manifest_from_json({"metrics": {"miou": {"unit": "ms"}, "other": {"unit": "ms"}}})


def swept(output, values, **fields):
    """A sweep of cells `a` and `b` with two folds each, and these values; None: no result."""
    sweep = make_grid(cells=("a", "b"), folds=(0, 1))
    sweep = replace(sweep, frozen_manifest=NUMBER, **fields)
    write_sweep(output, sweep)
    for run, value in zip(sweep.runs, values, strict=True):
        if value is not None:
            write_result(output, run, value)
    return sweep


@pytest.mark.parametrize("value", [66.3, -0.3])
def test_a_result_out_of_range_is_kept_named_and_never_averaged(tmp_path, value):
    sweep = make_grid(folds=(0, 1))
    write_sweep(tmp_path, sweep)
    write_result(tmp_path, sweep.runs[0], 0.15)
    path = write_result(tmp_path, sweep.runs[1], value)
    merged = rebuild(tmp_path)
    (cell,) = merged.document["results"].values()
    assert (cell["mean"], cell["folds"], exit_code(merged)) == (None, ["0"], 1)
    (problem,) = merged.problems
    assert f"miou {value:g} is outside of the metric's range, 0 to 1" in problem.reason
    assert "move it away, and the same command trains it again" in problem.reason
    assert path.exists()


def test_a_view_of_an_older_version_with_such_a_result_keeps_the_others(tmp_path):
    sweep = make_grid(folds=(0, 1))
    results = {run.run_id: make_result(run, 0.15) for run in sweep.runs}
    collected = Collected(sweep=sweep, results=results, problems=(), aside=())
    view = parse_json("view", view_bytes(combine({"out": collected}).document))
    view["runs"][sweep.runs[1].run_id][0]["metrics"]["miou"] = 66.3
    merged = merge_views({"old": view})
    (cell,) = merged.document["results"].values()
    assert (cell["folds"], cell["mean"]) == (["0"], None)
    assert [problem.run_id for problem in merged.problems] == [sweep.runs[1].run_id]
    # Merged again, and with itself, it is the same view.
    again = merge_views({"one": merged.document, "old": view})
    assert view_bytes(again.document) == view_bytes(merged.document)


def test_a_result_that_names_a_key_twice_is_refused(tmp_path):
    sweep = make_grid(folds=(0,))
    write_sweep(tmp_path, sweep)
    path = write_result(tmp_path, sweep.runs[0], 0.5)
    path.write_text(path.read_text().replace('"miou": 0.5', '"miou": 0.1, "miou": 0.9'))
    (problem,) = rebuild(tmp_path).problems
    assert "an object names 'miou' twice" in problem.reason


@pytest.mark.parametrize(
    "values", [(3.1e199, 1.0), (1.7e308, 1.7e308), (1.7e308, -1.7e308), (1e200, -1e200)]
)
def test_a_cell_too_large_for_statistics_says_so_and_the_others_stand(tmp_path, values):
    swept(tmp_path, (*values, 0.5, 0.7))
    merged = rebuild(tmp_path)
    large, usual = merged.document["results"].values()
    assert (large["mean"], large["std"], large["complete"]) == (None, None, False)
    assert large["unusable"].startswith("miou of fold 0 is ")
    assert large["unusable"].endswith(": too large for a mean")
    assert usual["mean"]["miou"] == pytest.approx(0.6)
    assert exit_code(merged) == 1
    assert "unusable" in results_table(merged.sweep, merged.document)[2]
    assert notes(merged.document) == [f"unusable: a: {large['unusable']}"]
    assert read_json(tmp_path / "replication_results.json") == merged.document


def test_a_report_of_numbers_that_are_too_large_to_draw_is_made(tmp_path):
    swept(tmp_path, (1.7e308, -1.7e308, 0.5, 0.7))
    page = html_report(read_report(tmp_path, *rebuild_with_results(tmp_path)))
    assert '<td class="verdict incomplete">unusable</td>' in page


def test_another_metric_that_is_too_large_is_left_out_alone(tmp_path):
    sweep = make_grid(folds=(0, 1))
    write_sweep(tmp_path, replace(sweep, frozen_manifest=NUMBER))
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5, metrics={"miou": 0.5, "other": 1e308})
    merged = rebuild(tmp_path)
    (cell,) = merged.document["results"].values()
    assert (cell["mean"], cell["complete"]) == ({"miou": 0.5}, True)


def test_recorded_errors_that_are_too_large_leave_no_interval(tmp_path):
    sweep = make_grid(folds=(0, 1))
    write_sweep(tmp_path, sweep)
    large = {"bootstrap": {"standard_error": {"miou": 1e200}}}
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5, details={"reported": "best", "best": large})
    (cell,) = rebuild(tmp_path).document["results"].values()
    assert cell["mean"] == {"miou": 0.5}
    assert "ci" not in cell


def test_a_comparison_of_numbers_that_are_too_large_has_no_statistics():
    sweep = replace(make_grid(cells=("a", "b"), folds=(0, 1)), frozen_manifest=NUMBER)
    values = dict(
        zip((run.run_id for run in sweep.runs), (1.7e308, 1.0, -1.7e308, 2.0), strict=True)
    )
    counted = {r.run_id: entry_of(make_result(r, values[r.run_id]), NUMBER) for r in sweep.runs}
    [comparison] = compare(sweep, counted, "cell", ("a", "b"))
    assert (comparison.mean, comparison.std, comparison.interval) == (None, None, None)
    assert comparison.p_value is None
    assert comparison.warnings == ("all: the numbers are too large for statistics",)


def test_cells_that_never_began_make_a_sweep_incomplete(tmp_path):
    swept(tmp_path, (0.5, 0.6, None, None))
    merged = rebuild(tmp_path)
    assert merged.document["cells_without_results"] == ["b"]
    assert not merged.is_complete
    assert exit_code(merged) == 3
    rows = results_table(merged.sweep, merged.document)[2:]
    assert [row.split()[0] for row in rows] == ["a", "b"]
    assert rows[1].split() == ["b", "-", "-", "-", "-", "0/2"]
    assert notes(merged.document) == ["incomplete: 1 cell without a result: b"]


def test_status_does_not_call_a_run_done_whose_result_does_not_count(tmp_path):
    from orchestrator.status import read_status

    sweep = make_grid(folds=(0, 1))
    write_sweep(tmp_path, sweep)
    for run, value in zip(sweep.runs, (0.5, 66.3), strict=True):
        write_result(tmp_path, run, value)
    done, unknown = (entry.state for entry in read_status(tmp_path, 0.0).runs)
    assert (done.state, unknown.state) == ("done", "unknown")
    assert "outside of the metric's range" in unknown.reason


def test_a_result_with_an_equal_key_elsewhere_is_read(tmp_path):
    sweep = make_grid(folds=(0,))
    write_sweep(tmp_path, sweep)
    details = {"history": [{"epoch": 1}, {"epoch": 2}], "text": '", "miou": '}
    write_json(
        write_result(tmp_path, sweep.runs[0], 0.5),
        make_result(sweep.runs[0], 0.5, details=details).to_json(),
    )
    assert gather(tmp_path).problems == []
