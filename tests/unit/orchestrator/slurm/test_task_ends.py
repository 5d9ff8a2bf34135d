"""Tasks that ended before any run's file says why, and runs whose task had too little."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.sweeps import make_sweep, shell, write_sweep

from merge.records.sweep import Sweep
from merge.storage.paths import SweepPaths
from orchestrator.runs.states import RunState, State
from orchestrator.slurm.arrays import plan_arrays
from orchestrator.slurm.jobs import scheduled_states
from orchestrator.slurm.raises import needed_raises
from orchestrator.slurm.request import SlurmRequest
from orchestrator.slurm.submit import SlurmSubmission, send

REQUEST = SlurmRequest(mem="4G", time=60, raise_on_retry={"mem": 2.0, "time": 2.0})


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    made = make_sweep(shell("true"), folds=3)
    write_sweep(tmp_path / "out", made)
    return made


def submit(output: Path, sweep: Sweep, name: str = "one", raises=None) -> None:
    arrays = plan_arrays([[run] for run in sweep.runs], lambda _: REQUEST, 9, raises)
    send(
        SlurmSubmission(
            id=name, study="t", output=output, cwd=output, arrays=arrays, has_merge=False
        )
    )


def rows_of(fake: Path, *rows: str) -> None:
    (fake / "rows").write_text("".join(f"{row}|\n" for row in rows))


def test_a_task_that_ended_before_papergrid_started_names_node_code_log_and_last_line(
    fake, sweep, tmp_path
):
    output = tmp_path / "out"
    submit(output, sweep)
    rows_of(
        fake,
        "1_0|FAILED|NonZeroExitCode|node3|0|N/A|1:00:00|32512",
        "1_1|FAILED|NonZeroExitCode|node3|0|N/A|1:00:00|256",
        "1_2|FAILED|JobLaunchFailure|node4|0|N/A|1:00:00|256",
    )
    log = SweepPaths(output).submission("one").log("array-1-1_0")
    log.write_text("hello\nbash: module: command not\x1b[2J found\n\n")
    log.with_name("array-1-1_1.log").write_text("")
    states = scheduled_states(output, sweep.runs, [RunState(state=State.PENDING)] * 3)
    first, second, third = (state.reason for state in states)
    assert "ended as FAILED with exit code 127 on node3 and left no result" in first
    assert f"; log {log} ends with: bash: module: command not [2J found" in first
    assert "; 2 tasks ended so on node3: if the node is at fault" in first
    assert "`sbatch: {exclude: node3}`" in first
    assert "array-1-1_1.log (it is empty)" in second
    assert third.endswith("(it was not written: is this folder mounted on that node?)")


def test_a_run_that_failed_by_itself_keeps_its_own_reason(fake, sweep, tmp_path):
    output = tmp_path / "out"
    submit(output, sweep)
    rows_of(fake, "1_0|FAILED|NonZeroExitCode|node3|0|N/A|1:00:00|256")
    before = [RunState(state=State.FAILED, reason="NaN loss")] * 3
    assert scheduled_states(output, sweep.runs, before)[0] == before[0]


def test_what_a_task_had_too_little_of_is_raised_once_more_each_time(fake, sweep, tmp_path):
    output = tmp_path / "out"
    submit(output, sweep)
    rows_of(
        fake,
        "1_0|OUT_OF_MEMORY|OutOfMemory|node3|0|N/A|1:00:00|125",
        "1_1|TIMEOUT|TimeLimit|node3|0|N/A|1:00:00|0",
        "1_2|FAILED|NonZeroExitCode|node4|0|N/A|1:00:00|256",
    )
    raises = needed_raises(output, sweep.runs)
    assert raises == {"run-fold0": {"mem": 1}, "run-fold1": {"time": 1}}
    submit(output, sweep, "two", raises)
    rows_of(fake, "2_0|OUT_OF_MEMORY|OutOfMemory|node3|0|N/A|1:00:00|125")
    assert needed_raises(output, sweep.runs) == {"run-fold0": {"mem": 2}, "run-fold1": {"time": 1}}
    scripts = [job["script"] for job in json.loads((fake / "jobs.json").read_text()).values()]
    assert ["mem=4G" in text for text in scripts] == [True, False, True, True]
    assert "#SBATCH --mem=8192M" in scripts[1]
    assert "#SBATCH --time=120" in scripts[2]
