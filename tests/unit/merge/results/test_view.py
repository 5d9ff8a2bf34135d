"""The merged view on disk: rebuilt from run folders, robust against what lies there."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.errors import IncompleteError, RecordError, UsageError
from merge.results.view import merge_inputs, merge_named, rebuild
from merge.storage.json_files import read_json, write_json


def test_a_view_that_was_deleted_is_rebuilt_byte_for_byte(tmp_path):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    for number, run in enumerate(sweep.runs):
        write_result(tmp_path, run, 0.5 + number / 10)
    rebuild(tmp_path)
    first = paths.results.read_bytes()
    paths.results.unlink()
    rebuild(tmp_path)
    assert paths.results.read_bytes() == first


def test_a_damaged_result_is_named_and_the_others_are_merged(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path, sweep)
    write_result(tmp_path, sweep.runs[0], 0.5)
    damaged = write_result(tmp_path, sweep.runs[1], 0.6)
    damaged.write_bytes(damaged.read_bytes()[:40])
    merged = rebuild(tmp_path)
    assert [problem.run_id for problem in merged.problems] == [sweep.runs[1].run_id]
    assert merged.document["results"][sweep.runs[0].cell]["folds"] == ["0"]
    assert damaged.exists()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"config_hash": "of another run"}, "configuration"),
        ({"run_id": "other"}, "result of other"),
        ({"metrics": {"loss": 1.0}}, "no metric 'miou'"),
        ({"metrics": {"miou": "0.5"}}, "not a finite number"),
        ({"metrics": {}}, 'no "metrics"'),
    ],
)
def test_a_result_that_is_not_of_this_run_is_left_out_with_the_reason(tmp_path, fields, reason):
    sweep = make_grid()
    write_sweep(tmp_path, sweep)
    write_result(tmp_path, sweep.runs[0], 0.5, **fields)
    merged = rebuild(tmp_path)
    assert merged.document["results"] == {}
    assert reason in merged.problems[0].reason


def test_a_result_of_a_future_schema_is_left_out(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path, sweep)
    path = write_result(tmp_path, sweep.runs[0], 0.5)
    write_json(path, {**read_json(path), "schema": 99})
    assert "schema 99" in rebuild(tmp_path).problems[0].reason


def test_a_second_result_is_reported_and_not_counted(tmp_path):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    run = sweep.runs[0]
    path = write_result(tmp_path, run, 0.5)
    aside = paths.run(run.path).result_aside("late")
    aside.write_bytes(path.read_bytes().replace(b"0.5", b"0.9"))
    merged = rebuild(tmp_path)
    assert merged.document["results"][run.cell]["0"] == {"miou": 0.5}
    assert merged.aside[0].file.endswith("result.aside-late.json")
    assert not merged.is_clean


def test_a_folder_without_a_sweep_says_which_folder_to_name(tmp_path):
    with pytest.raises(IncompleteError, match="output-dir"):
        rebuild(tmp_path)
    write_sweep(tmp_path / "outputs" / "demo", make_grid())
    # A folder that is not there is a mistake of the command line: waiting does not help.
    with pytest.raises(UsageError, match=r"dmeo does not exist \(did you mean .*outputs/demo\?\)"):
        rebuild(tmp_path / "dmeo")
    with pytest.raises(UsageError, match=r"\(there is a sweep in .*outputs/demo\): .*output-dir"):
        rebuild(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_merge_that_has_nothing_to_merge_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    inputs = {"nowhere": UsageError, "empty": IncompleteError, "bad.json": RecordError}
    for name, error in inputs.items():
        with pytest.raises(error):
            merge_named([Path(name)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json", "empty"]


def test_a_damaged_plan_is_an_error_that_names_it(tmp_path):
    paths = write_sweep(tmp_path, make_grid())
    paths.sweep.write_text('{"schema": 1, "study": "x"}')
    with pytest.raises(RecordError, match=r"sweep\.json"):
        rebuild(tmp_path)


def test_two_folders_merge_into_one_file(tmp_path):
    sweep = make_grid()
    for half, name in (((0, 1), "a"), ((2, 3), "b")):
        write_sweep(tmp_path / name, sweep)
        for fold in half:
            write_result(tmp_path / name, sweep.runs[fold], 0.665 if name == "a" else 0.73)
    into = tmp_path / "merged_results.json"
    merge_inputs([tmp_path / "b", tmp_path / "a"], into)
    cell = read_json(into)["results"][sweep.runs[0].cell]
    assert cell["mean"]["miou"] == pytest.approx(0.6975)


@pytest.mark.parametrize("name", ["sweep.json", "result.json", "run.json", ""])
def test_a_merged_file_never_takes_the_place_of_a_plan_a_result_or_a_folder(tmp_path, name):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    write_result(tmp_path, sweep.runs[0], 0.5)
    plan = paths.sweep.read_bytes()
    with pytest.raises(UsageError, match="neither an input nor a merged file"):
        merge_inputs([tmp_path], tmp_path / name)
    assert paths.sweep.read_bytes() == plan


@pytest.mark.parametrize(
    "content", ["axes: {fold: [0, 1]}\n", "", "[1]", '{"results": {"cell": {"0": {"miou": 0.5}}}}']
)
def test_a_merged_file_takes_the_place_of_no_other_file(tmp_path, content):
    write_sweep(tmp_path / "out", make_grid())
    into = tmp_path / "merged.json"
    into.write_text(content)
    with pytest.raises(UsageError, match="neither an input nor a merged file"):
        merge_inputs([tmp_path / "out"], into)
    assert into.read_text() == content


def test_a_merged_file_takes_the_place_of_an_earlier_one_and_of_an_input(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path / "out", sweep)
    write_result(tmp_path / "out", sweep.runs[0], 0.5)
    into = tmp_path / "merged.json"
    cell = sweep.runs[0].cell
    into.write_text(json.dumps({"results": {cell: {"1": {"miou": 0.25}}}}))
    merge_inputs([tmp_path / "out", into], into)
    assert read_json(into)["results"][cell]["1"]["miou"] == 0.25
    merge_inputs([tmp_path / "out"], into)
    assert read_json(into)["results"][cell]["0"]["miou"] == 0.5


def test_a_folder_named_twice_counts_once(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path / "a", sweep)
    for run in sweep.runs:
        write_result(tmp_path / "a", run, 0.5)
    once, twice = tmp_path / "once.json", tmp_path / "twice.json"
    merge_inputs([tmp_path / "a"], once)
    merge_inputs([tmp_path / "a", tmp_path / "a" / "."], twice)
    assert twice.read_bytes() == once.read_bytes()


def _finish_and_merge(output, sweep, indices):
    for index in indices:
        write_result(output, sweep.runs[index], 0.5)
        rebuild(output)


def test_writers_that_merge_at_once_lose_no_result(tmp_path):
    sweep = make_grid(cells=tuple(f"cell{i}" for i in range(8)))
    paths = write_sweep(tmp_path, sweep)
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(
            target=_finish_and_merge, args=(tmp_path, sweep, range(start, len(sweep.runs), 4))
        )
        for start in range(4)
    ]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        if paths.results.exists():
            cells = read_json(paths.results)["results"]
            present = sum(cell["n"] for cell in cells.values())
            assert present >= seen
            seen = present
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    cells = read_json(paths.results)["results"]
    assert sum(cell["n"] for cell in cells.values()) == len(sweep.runs)
