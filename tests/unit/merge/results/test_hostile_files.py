"""Any value in any place of a file that was changed by hand: named or tolerated, never a crash."""

from __future__ import annotations

import copy
import json

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge import merge_results, to_pandas
from merge.errors import PapergridError, RecordError
from merge.records.sweep import read_sweep
from merge.results.documents import view_bytes
from merge.results.view import rebuild
from merge.storage.json_files import write_json

STRANGE = (None, 10**400, "x", [1], {"a": {"b": [1]}})
PUBLISHED = {"cells": {"a": {"0": 0.5, "mean": 0.5}}, "tolerance": 0.01, "notes": {"a": "n"}}
DETAILS = {
    "protocol": "bam",
    "seconds": {"train": 60.0},
    "peak_memory_mb": {"host": 5.0},
    "untrained": {"epoch": 0, "miou": 0.1},
    "test_seeds": [0],
    "reported": "best",
    "best": {
        "by_test_seed": [{"miou": 0.5}],
        "bootstrap": {"replicates": 1000, "standard_error": {"miou": 0.01}},
    },
}


@pytest.fixture
def output(tmp_path):
    sweep = make_grid(cells=("a", "b"), folds=(0, 1), published=PUBLISHED)
    folder = tmp_path / "out"
    write_sweep(folder, sweep)
    for run in sweep.runs:
        deviations = {"micro_batch": {"planned": 8, "used": 4, "cause": "cuda_oom"}}
        write_result(folder, run, 0.5, details=DETAILS, deviations=deviations, code={"source": "s"})
    rebuild(folder)
    return folder


def places(value, above=()):
    """The way to each value inside `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in inside:
        yield (*above, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*above, key))


def changed(document, place, value):
    document = copy.deepcopy(document)
    spot = document
    for key in place[:-1]:
        spot = spot[key]
    spot[place[-1]] = value
    return document


@pytest.mark.parametrize("value", STRANGE)
def test_whatever_stands_in_one_result_the_others_are_merged(output, value):
    path = output / "a/fold0/result.json"
    document = json.loads(path.read_text())
    for place in places(document):
        path.write_text(json.dumps(changed(document, place, value)))
        merged = rebuild(output)
        assert merged.document["results"]["a"]["1"] == {"miou": 0.5}, place
        assert merged.document["results"]["b"]["complete"], place
        assert merged.problems or merged.document["results"]["a"]["complete"], place
        assert len(to_pandas(merged.document)) in (3, 4), place


@pytest.mark.parametrize("value", STRANGE)
def test_whatever_stands_in_a_view_it_is_quarantined_or_merged(output, tmp_path, value):
    document = json.loads((output / "replication_results.json").read_text())
    path = tmp_path / "view.json"
    for part in ("plan", "published"):
        for place in places({part: document[part]}):
            path.write_text(json.dumps(changed(document, place, value)))
            _refused_or_merged(path, output)
    for place in places({"runs": {"a-fold0": document["runs"]["a-fold0"]}}):
        path.write_text(json.dumps(changed(document, place, value)))
        _refused_or_merged(path, output)


def _refused_or_merged(path, output):
    try:
        document = merge_results([path, output])
    except PapergridError:
        return
    assert document["results"]["b"]["n"] >= 1
    view_bytes(document)
    to_pandas(document)


@pytest.mark.parametrize("value", STRANGE)
def test_whatever_stands_in_a_plan_it_is_refused_by_name_or_read(output, value):
    path = output / "sweep.json"
    document = json.loads(path.read_text())
    for place in places(document):
        path.write_text(json.dumps(changed(document, place, value)))
        try:
            read_sweep(path)
        except RecordError as refused:
            told = str(refused)
        else:
            rebuild(output)
            continue
        assert str(path) in told, place


@pytest.mark.parametrize("path", ["../../elsewhere", "/etc", "a/../b", "a//b", "."])
def test_a_plan_whose_runs_leave_the_output_folder_is_refused(output, path):
    plan = json.loads((output / "sweep.json").read_text())
    plan["runs"][0]["path"] = path
    write_json(output / "sweep.json", plan)
    with pytest.raises(RecordError, match="leaves the output folder"):
        rebuild(output)


@pytest.mark.parametrize("key", ["run_id", "path"])
def test_two_runs_in_one_place_are_no_plan(output, key):
    plan = json.loads((output / "sweep.json").read_text())
    plan["runs"][0][key] = plan["runs"][1][key]
    write_json(output / "sweep.json", plan)
    with pytest.raises(RecordError, match="two runs share an id"):
        read_sweep(output / "sweep.json")
