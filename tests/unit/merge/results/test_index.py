"""The index of what was read: saves reading, and is never believed over the files."""

from __future__ import annotations

import json
import os

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.results.view import rebuild
from merge.storage.json_files import write_json


@pytest.fixture
def finished(tmp_path):
    """An output folder that lacks one result, merged once."""
    sweep = make_grid(cells=("a", "b", "c"))
    paths = write_sweep(tmp_path, sweep)
    for run in sweep.runs[:-1]:
        write_result(tmp_path, run, 0.5)
    assert rebuild(tmp_path).num_read == len(sweep.runs) - 1
    return sweep, paths


def test_one_more_result_reads_no_other(tmp_path, finished):
    sweep, _ = finished
    assert rebuild(tmp_path).num_read == 0
    write_result(tmp_path, sweep.runs[-1], 0.5)
    merged = rebuild(tmp_path)
    assert merged.num_read == 1
    assert merged.is_complete


def test_a_view_by_way_of_the_index_equals_one_without(tmp_path, finished):
    _, paths = finished
    rebuild(tmp_path)
    with_index = paths.results.read_bytes()
    paths.merge_index.unlink()
    rebuild(tmp_path)
    assert paths.results.read_bytes() == with_index


def test_a_result_that_changed_is_read_again(tmp_path, finished):
    sweep, _ = finished
    run = sweep.runs[0]
    path = write_result(tmp_path, run, 0.9)
    assert rebuild(tmp_path).document["results"][run.cell]["0"] == {"miou": 0.9}
    path.write_text("torn")
    assert [problem.run_id for problem in rebuild(tmp_path).problems] == [run.run_id]
    path.unlink()
    assert "0" not in rebuild(tmp_path).document["results"][run.cell]


def test_a_result_changed_in_place_with_its_old_time_is_read_again(tmp_path, finished):
    sweep, paths = finished
    path = paths.run(sweep.runs[0].path).result
    stat = path.stat()
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.7"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert rebuild(tmp_path).document["results"]["a"]["0"] == {"miou": 0.7}


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:100],
        lambda data: data.replace(b'"miou": 0.5', b'"miou": 0.9'),
        lambda data: data.replace(b'"version": 4', b'"version": 3'),
        lambda _: b"\xff\n[]\n",
    ],
)
def test_a_damaged_index_is_taken_for_absent(tmp_path, finished, damage):
    sweep, paths = finished
    data = paths.merge_index.read_bytes()
    assert damage(data) != data
    paths.merge_index.write_bytes(damage(data))
    merged = rebuild(tmp_path)
    assert merged.num_read == len(sweep.runs) - 1
    assert merged.document["results"]["a"]["mean"] == {"miou": 0.5}
    assert rebuild(tmp_path).num_read == 0


def test_a_result_under_another_plan_is_refused_though_the_index_knows_it(tmp_path, finished):
    _, paths = finished
    plan = json.loads(paths.sweep.read_text())
    plan["runs"][0]["config_hash"] = "another"
    write_json(paths.sweep, plan)
    assert "configuration" in rebuild(tmp_path).problems[0].reason
