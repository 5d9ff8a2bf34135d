"""Job arrays that SLURM accepted, but whose ids could not be recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sweeps import make_sweep, shell, write_sweep

from merge.errors import NoAnswerError, SchedulerError
from merge.records.sweep import Sweep
from orchestrator.runs.states import RunState, State
from orchestrator.slurm.arrays import plan_arrays
from orchestrator.slurm.cancel import cancel_tasks
from orchestrator.slurm.jobs import may_be_queued, scheduled_states
from orchestrator.slurm.record import read_submissions
from orchestrator.slurm.request import SlurmRequest
from orchestrator.slurm.submit import SlurmSubmission, send

RUNS = ("run-fold0", "run-fold1", "run-fold2")


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    """Three runs, frozen into `out`."""
    made = make_sweep(shell("true"), folds=len(RUNS))
    write_sweep(tmp_path / "out", made)
    return made


def planned(output: Path, sweep: Sweep, name: str = "20261124-100000-aaaa") -> SlurmSubmission:
    """Two arrays: of the first two runs, and of the third."""
    arrays = plan_arrays([[run] for run in sweep.runs], lambda _: SlurmRequest(), 2)
    return SlurmSubmission(id=name, study="test", output=output, cwd=output, arrays=arrays)


def states(output: Path, sweep: Sweep) -> list[RunState]:
    return scheduled_states(output, sweep.runs, [RunState(state=State.PENDING)] * len(RUNS))


def send_with_lost_answer(fake: Path, output: Path, sweep: Sweep) -> None:
    (fake / "mute").touch()
    with pytest.raises(NoAnswerError, match="this one may be queued all the same"):
        send(planned(output, sweep))
    (fake / "mute").unlink()


def test_an_array_whose_answer_was_lost_is_found_told_and_cancelled(fake, sweep, tmp_path):
    output = tmp_path / "out"
    send_with_lost_answer(fake, output, sweep)
    (submission,) = read_submissions(output)
    assert [array.job_id for array in submission.arrays] == [None], "the second was never sent"
    (fake / "rows").write_text(
        "1_0|PENDING|Priority||0|N/A|1-00:00:00|0|\n1_1|RUNNING|None|node1|0|N/A|1-00:00:00|0|\n"
    )
    assert [state.reason for state in states(output, sweep)] == [
        "queued in SLURM as 1_0 (Priority)",
        "in SLURM task 1_1, running on node1",
        "",
    ]
    assert may_be_queued(output, RUNS)[0] == {"run-fold0": "1_0", "run-fold1": "1_1"}
    assert list(cancel_tasks(output, ["run-fold1"]).stopping) == ["1_1"]


def test_a_folder_that_lies_elsewhere_on_this_host_is_known_by_the_submission(
    fake, sweep, tmp_path
):
    send_with_lost_answer(fake, tmp_path / "out", sweep)
    (fake / "rows").write_text("1_0|PENDING|Priority||0|N/A|1-00:00:00|0|\n")
    (tmp_path / "mount").symlink_to(tmp_path / "out")
    assert may_be_queued(tmp_path / "mount", RUNS)[0] == {"run-fold0": "1_0"}


def test_an_array_that_slurm_has_not_is_sent_again(fake, sweep, tmp_path):
    output = tmp_path / "out"
    send_with_lost_answer(fake, output, sweep)
    (fake / "jobs.json").unlink()
    assert may_be_queued(output, RUNS)[0] == {}
    assert {state.state for state in states(output, sweep)} == {State.PENDING}


def test_where_slurm_is_silent_such_an_array_is_neither_there_nor_not_there(fake, sweep, tmp_path):
    output = tmp_path / "out"
    send_with_lost_answer(fake, output, sweep)
    (fake / "bin" / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm' >&2; exit 1\n")
    first, second, third = states(output, sweep)
    assert (first.state, second.state, third.state) == ("unknown", "unknown", "pending")
    assert "task 0 of 20261124-100000-aaaa/array-1, but SLURM does not answer now" in first.reason
    for command in (may_be_queued, cancel_tasks):
        with pytest.raises(SchedulerError, match="try again later"):
            command(output, list(RUNS))


@pytest.mark.parametrize("accepted", [0, 1])
def test_what_slurm_refused_is_not_looked_for_in_its_queue(fake, sweep, tmp_path, accepted):
    output = tmp_path / "out"
    (fake / "refuse").write_text(str(accepted + 1))
    with pytest.raises(SchedulerError):
        send(planned(output, sweep))
    calls = (fake / "calls").read_text()
    may_be_queued(output, ["run-fold2"])
    assert states(output, sweep)[2].state is State.PENDING
    assert "--user=" not in (fake / "calls").read_text().removeprefix(calls)


def test_a_run_that_was_sent_again_since_is_not_looked_for_either(fake, sweep, tmp_path):
    output = tmp_path / "out"
    send_with_lost_answer(fake, output, sweep)
    (fake / "jobs.json").unlink()
    send(planned(output, sweep, "20261124-110000-bbbb"))
    (fake / "rows").write_text("1_0|PENDING|Priority||0|N/A|1-00:00:00|0|\n")
    assert may_be_queued(output, RUNS)[0] == {"run-fold0": "1_0"}
    assert "--user=" not in (fake / "calls").read_text()
