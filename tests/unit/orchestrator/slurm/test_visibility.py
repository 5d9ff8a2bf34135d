"""What SLURM does not show here: neither ended nor sent again."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
from support.sweeps import make_sweep, shell, write_sweep

from merge.errors import SchedulerError
from merge.records.sweep import Sweep
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.plan.plan import Plan
from orchestrator.runs.states import RunState, State
from orchestrator.slurm import visibility
from orchestrator.slurm.jobs import may_be_queued, scheduled_states
from orchestrator.slurm.record import ArrayRecord, SubmissionRecord
from replicate import api
from replicate.cli.slurm_selection import still_to_send

RUNS = ("run-fold0", "run-fold1")
PRIVATE = "MaxArraySize = 1001\nClusterName = lab\nPrivateData = accounts,jobs\n"
NO_ROWS = "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1\n"


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Sweep:
    """Two runs that ada submitted to the cluster `lab`; this user is ben."""
    monkeypatch.setattr(visibility, "user_name", lambda: "ben")
    made = make_sweep(shell("true"), folds=2)
    write_sweep(tmp_path, made)
    write_json(SweepPaths(tmp_path).submission("a").record, RECORD.to_json())
    return made


RECORD = SubmissionRecord(
    id="a",
    created=1.0,
    by="ada",
    host="login1",
    arrays=(ArrayRecord(name="array-1", tasks=(("run-fold0",), ("run-fold1",)), job_id="7"),),
    cluster="lab",
)


def states(output: Path, sweep: Sweep, state: State = State.PENDING) -> list[RunState]:
    return scheduled_states(output, sweep.runs, [RunState(state=state, host="node1")] * 2)


def test_a_task_of_another_user_whose_jobs_are_private_is_unknown(fake, sweep, tmp_path):
    (fake / "config").write_text(PRIVATE)
    first, second = states(tmp_path, sweep)
    assert (first.state, second.state) == ("unknown", "unknown")
    assert "its task 7_0 is not known: ada submitted it" in first.reason
    queued, hidden = may_be_queued(tmp_path, RUNS)
    assert queued == {}
    assert {run_id: task for run_id, (task, _) in hidden.items()} == dict(
        zip(RUNS, ("7_0", "7_1"), strict=True)
    )


def test_an_old_word_of_the_history_ends_no_live_run_of_another_user(fake, sweep, tmp_path):
    (fake / "config").write_text(PRIVATE)
    (fake / "history").write_text("7_0|RUNNING|node1|0:0|lab\n7_1|PREEMPTED|node1|0:0|lab\n")
    assert {state.state for state in states(tmp_path, sweep, State.RUNNING)} == {State.RUNNING}
    assert {state.state for state in states(tmp_path, sweep)} == {State.UNKNOWN}
    (fake / "history").write_text("7_0|FAILED|node1|1:0|lab\n7_1|TIMEOUT|node1|0:0|lab\n")
    assert {state.state for state in states(tmp_path, sweep)} == {State.FAILED}


@pytest.mark.parametrize(
    ("me", "config"),
    [
        ("ada", PRIVATE),
        ("root", PRIVATE),
        ("ben", PRIVATE.replace("jobs", "usage")),
        ("ben", PRIVATE.replace("accounts,jobs", "none")),
    ],
)
def test_a_task_that_slurm_would_show_has_ended_when_it_is_absent(
    fake, sweep, tmp_path, monkeypatch, me, config
):
    monkeypatch.setattr(visibility, "user_name", lambda: me)
    (fake / "config").write_text(config)
    assert {state.state for state in states(tmp_path, sweep)} == {State.FAILED}
    assert may_be_queued(tmp_path, RUNS) == ({}, {})


def test_a_job_of_another_user_that_was_not_recorded_may_be_anywhere(fake, sweep, tmp_path):
    (array,) = RECORD.arrays
    unsure = replace(RECORD, arrays=(replace(array, job_id=None),))
    write_json(SweepPaths(tmp_path).submission("a").record, unsure.to_json())
    (fake / "jobs.json").write_text("{}")
    (fake / "config").write_text(PRIVATE)
    assert {state.state for state in states(tmp_path, sweep)} == {State.UNKNOWN}
    with pytest.raises(SchedulerError, match="let ada submit again"):
        may_be_queued(tmp_path, RUNS)


def test_another_cluster_knows_nothing_of_these_tasks(fake, sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(visibility, "user_name", lambda: "ada")
    (fake / "config").write_text("MaxArraySize = 1001\nClusterName = annex\n")
    (fake / "history").write_text("7_0|FAILED|node1|1:0|annex\n7_1|COMPLETED|node1|0:0|annex\n")
    first, second = states(tmp_path, sweep)
    assert (first.state, second.state) == ("unknown", "unknown")
    assert "on the cluster 'lab' and 'annex' answers here: ask on a host of 'lab'" in first.reason
    assert set(may_be_queued(tmp_path, RUNS)[1]) == {*RUNS}


def test_a_cluster_that_does_not_say_what_it_hides_leaves_it_open(fake, sweep, tmp_path):
    (fake / "bin" / "scontrol").write_text("#!/bin/sh\necho down >&2; exit 1\n")
    assert {state.state for state in states(tmp_path, sweep)} == {State.UNKNOWN}


def test_runs_of_another_user_are_sent_again_only_once_they_are_cancelled(
    fake, sweep, tmp_path, capsys
):
    (fake / "config").write_text(PRIVATE)
    planned = Plan(
        sweep=sweep, runs=sweep.runs, shards=(), division="", all_shards=(), estimates={}
    )
    arguments = argparse.Namespace(retry_cancelled=True, dry_run=False)
    assert still_to_send(planned, tmp_path, arguments) == {}
    told = capsys.readouterr().err
    assert "2 runs may still be in SLURM's queue and are not sent again: ada" in told
    assert f"`replicate cancel {tmp_path} --run run-fold0 --run run-fold1`" in told
    (note,) = api.cancel(tmp_path, sweep.runs)[1]
    assert note.startswith("2 SLURM tasks are not shown here (ada submitted it")
    assert list(still_to_send(planned, tmp_path, arguments)) == [*RUNS]


def test_a_record_of_an_older_version_names_no_cluster_and_is_read(fake, sweep, tmp_path):
    old = replace(RECORD, cluster="").to_json()
    del old["cluster"]
    for array in old["arrays"]:
        del array["grace_s"], array["num_raises"]
    write_json(SweepPaths(tmp_path).submission("a").record, old)
    (fake / "config").write_text("MaxArraySize = 1001\nClusterName = annex\n")
    assert {state.state for state in states(tmp_path, sweep)} == {State.FAILED}
