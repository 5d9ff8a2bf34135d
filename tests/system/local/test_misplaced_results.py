"""A command that writes its result.json into the run's folder, and is corrected."""

from __future__ import annotations

import json

import pytest
from support.commands import replicate
from support.executors import run_here
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.records.records import Cause, Outcome, read_attempt
from merge.records.result import read_result
from merge.results.collect import collect
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.runs.misplaced import set_misplaced_aside

pytestmark = pytest.mark.system

MISPLACED = '{"metrics": {"score": 99}}'
INTO_RUN_DIR = f"""echo '{MISPLACED}' > "$PAPERGRID_RUN_DIR/result.json"; """
ADVICE = (
    "it wrote result.json into $PAPERGRID_RUN_DIR: let it write into $PAPERGRID_ATTEMPT_DIR, then "
    "run the same command again (the file does not count and is kept as "
    "attempts/0001/result.misplaced.json)"
)


def first_run(tmp_path, sweep) -> RunPaths:
    return SweepPaths(tmp_path).run(sweep.runs[0].path)


def test_the_advice_is_followed_and_the_next_attempt_is_done(tmp_path):
    # The script is corrected between the attempts, the study is not.
    (tmp_path / "train.sh").write_text(INTO_RUN_DIR)
    sweep = make_sweep(("sh", str(tmp_path / "train.sh"), "{fold}"))
    report = run_here(sweep, tmp_path)
    paths = first_run(tmp_path, sweep)
    (ending,) = report.endings.values()
    assert (ending.cause, ending.reason) == (Cause.NO_RESULT, ADVICE)
    assert json.loads(paths.attempt(1).misplaced_result.read_text()) == json.loads(MISPLACED)
    (tmp_path / "train.sh").write_text(LEAVE_RESULT)
    assert run_here(sweep, tmp_path).exit_code == 0
    assert read_result(paths.result).metrics == {"score": 0}


@pytest.mark.parametrize("content", [MISPLACED, '{"metrics": {"score": NaN}}', "0.93", ""])
def test_a_result_in_both_folders_counts_from_the_attempt_s(tmp_path, content):
    script = f"""printf '%s' '{content}' > "$PAPERGRID_RUN_DIR/result.json"; """
    sweep = make_sweep(shell(script + LEAVE_RESULT))
    assert run_here(sweep, tmp_path).exit_code == 0
    paths = first_run(tmp_path, sweep)
    assert read_result(paths.result).metrics == {"score": 0}
    record = read_attempt(paths.attempt(1).record)
    assert (record.outcome, record.reason) == (Outcome.DONE, ADVICE)


def test_one_that_a_killed_executor_left_is_named_by_merge_and_moved_by_the_next_attempt(tmp_path):
    sweep = make_sweep(shell(LEAVE_RESULT))
    write_sweep(tmp_path, sweep)
    paths = first_run(tmp_path, sweep)
    paths.root.mkdir(parents=True)
    paths.result.write_text(MISPLACED)
    (problem,) = collect(tmp_path).problems
    assert "let the command write its result.json into $PAPERGRID_ATTEMPT_DIR" in problem.reason
    assert replicate("merge", tmp_path, cwd=tmp_path).returncode == 1
    assert run_here(sweep, tmp_path).exit_code == 0
    assert read_result(paths.result).metrics == {"score": 0}
    assert paths.attempt(1).misplaced_result.read_text() == MISPLACED


@pytest.mark.parametrize("damage", ["", '{"schema": 9, "run_id": "run-fold0"}', '{"schema": 1'])
def test_a_result_of_ours_that_is_damaged_stays_where_it_is(tmp_path, damage):
    sweep = make_sweep(shell(LEAVE_RESULT))
    paths = first_run(tmp_path, sweep)
    paths.root.mkdir(parents=True)
    paths.result.write_text(damage)
    assert set_misplaced_aside(paths, 1) is None
    report = run_here(sweep, tmp_path)
    assert report.exit_code == 1
    assert "move it away to train the run again" in report.endings["run-fold0"].reason
    assert paths.result.read_text() == damage
