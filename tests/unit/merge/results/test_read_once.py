"""Merge and report of one folder read each result once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from support.grids import make_grid, write_result, write_sweep

from merge.results.collect import collect
from merge.results.view import rebuild, rebuild_with_results

_COUNT = """
import sys
opened = []
sys.addaudithook(lambda name, words: opened.append(str(words[0])) if name == "open" else None)
from replicate import api
api.merge_and_report(sys.argv[1])
print("\\n".join(path for path in opened if path.endswith("/result.json")))
"""


def test_each_result_is_opened_once_for_merge_and_report(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path, sweep)
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5)
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Counter(done.stdout.split()) == {
        str(tmp_path / run.path / "result.json"): 1 for run in sweep.runs
    }


def test_the_view_and_the_results_are_those_of_a_merge_and_of_a_reading(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path, sweep)
    for run in sweep.runs[:3]:
        write_result(tmp_path, run, 0.5)
    (tmp_path / sweep.runs[2].path / "result.json").write_text("{")
    foreign = (tmp_path / sweep.runs[0].path / "result.json").read_bytes()
    copy = tmp_path / sweep.runs[3].path / "result.json"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(foreign.replace(b"0.5", b"0.7"))
    merged, results = rebuild_with_results(tmp_path)
    assert merged.document == rebuild(tmp_path).document
    assert results.keys() == collect(tmp_path).results.keys()
    assert {run_id: result.metrics["miou"] for run_id, result in results.items()} == {
        run.run_id: 0.5 for run in sweep.runs[:2]
    }


def test_a_later_merge_reads_nothing_again_after_a_full_reading(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path, sweep)
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5)
    rebuild_with_results(tmp_path)
    assert rebuild(tmp_path).num_read == 0
