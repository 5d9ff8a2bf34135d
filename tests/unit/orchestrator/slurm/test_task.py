"""Inside a SLURM task: its runs, when it is requeued, why it was stopped."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.sweeps import make_sweep, shell, write_sweep

from merge.errors import UsageError
from merge.records.records import Cause
from merge.records.result import Result
from merge.storage.clock import Clock
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.local.events import LocalReport, RunEnded, RunOutcome
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Taken, beat, release, take
from orchestrator.slurm.task import (
    StopFlag,
    requeue_if_stopped,
    task_runs,
    why_stopped,
    work_until_settled,
)

TASK = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}


def test_a_task_finds_its_runs_by_its_index(tmp_path):
    arrays = [
        {"name": "array-1", "tasks": [["a"], ["b"]], "job_id": "1"},
        {"name": "array-2", "tasks": [["c", "d"]], "job_id": None},
    ]
    record = {"schema": 1, "kind": "slurm", "id": "x", "created": 0, "by": "a", "host": "b"}
    path = SweepPaths(tmp_path).submission("x").record
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**record, "arrays": arrays, "merge": None}))
    assert task_runs(tmp_path, "x", "array-2", {**TASK, "SLURM_ARRAY_TASK_ID": "0"}) == ("c", "d")
    with pytest.raises(UsageError, match="no task 3 in array-1"):
        task_runs(tmp_path, "x", "array-1", TASK)
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        outside = {key: value for key, value in TASK.items() if key != name}
        with pytest.raises(UsageError, match="are not set: --submission is for tasks"):
            task_runs(tmp_path, "x", "array-1", outside)


def report(*outcomes: RunOutcome, was_stopped: bool = True) -> LocalReport:
    runs = make_sweep(shell("true"), folds=len(outcomes)).runs
    endings = {
        run.run_id: RunEnded(run=run, outcome=outcome)
        for run, outcome in zip(runs, outcomes, strict=True)
    }
    return LocalReport(endings=endings, was_stopped=was_stopped)


@pytest.mark.parametrize(
    ("ended", "state", "restarts", "is_queued"),
    [
        (report(RunOutcome.INTERRUPTED), "RUNNING", "", True),
        (report(RunOutcome.DONE, RunOutcome.NOT_STARTED), "RUNNING", "3", True),
        (report(RunOutcome.ELSEWHERE), "RUNNING", "", True),
        (report(RunOutcome.DONE), "RUNNING", "", False),
        (report(RunOutcome.FAILED), "RUNNING", "", False),
        (report(RunOutcome.INTERRUPTED), "CANCELLED", "", False),
        (report(RunOutcome.INTERRUPTED), "COMPLETING", "", False),
        (report(RunOutcome.INTERRUPTED), "RUNNING", "500", False),
        (report(RunOutcome.ELSEWHERE, was_stopped=False), "RUNNING", "", False),
    ],
)
def test_a_task_is_requeued_only_if_it_was_stopped_with_unfinished_runs(
    fake, ended, state, restarts, is_queued
):
    (fake / "rows").write_text(f"12_3|{state}|None|node1|0|N/A|1-00:00:00|0|\n")
    environment = {**TASK, "SLURM_RESTART_COUNT": restarts}
    assert requeue_if_stopped(ended, StopFlag(), environment) is is_queued
    calls = (fake / "calls").read_text() if (fake / "calls").exists() else ""
    # For the last task this is also the id of the whole array.
    assert ("scontrol requeue 12_3\n" in calls) is is_queued
    assert "requeue 12\n" not in calls


PREEMPTED_AT = "2026-11-24T22:10:42"


@pytest.mark.parametrize(
    ("row", "restarts", "is_queued"),
    [
        # PreemptMode=CANCEL: SLURM would not start it again.
        (f"COMPLETING|None|node1|0|{PREEMPTED_AT}|1:05|15|", "", True),
        (f"COMPLETING|None|node1|2|{PREEMPTED_AT}|1:05|15|", "2", True),
        # PreemptMode=REQUEUE: it is queued already.
        (f"COMPLETING|None|node1|1|{PREEMPTED_AT}|1:05|0|", "", False),
        (f"PENDING|BeginTime||1|{PREEMPTED_AT}|1:05|0|", "", False),
        ("COMPLETING|None|node1|0|N/A|1:05|15|", "", False),
    ],
)
def test_a_pre_empted_task_is_requeued_where_slurm_does_not_do_it(fake, row, restarts, is_queued):
    (fake / "rows").write_text(f"12_3|{row}\n")
    environment = {**TASK, "SLURM_RESTART_COUNT": restarts}
    stopped = report(RunOutcome.INTERRUPTED)
    assert requeue_if_stopped(stopped, StopFlag(), environment) is is_queued
    assert ("scontrol requeue 12_3\n" in (fake / "calls").read_text()) is is_queued


def test_a_task_that_is_stopped_between_runs_is_requeued(fake):
    (fake / "rows").write_text("12_3|RUNNING|None|node1|0|N/A|1-00:00:00|0|\n")
    assert requeue_if_stopped(
        report(RunOutcome.ELSEWHERE, was_stopped=False), StopFlag(is_set=True), TASK
    )


@pytest.mark.parametrize(
    ("told", "row", "restarts", "why"),
    [
        (Cause.PREEMPTED, "COMPLETING|None|node1|0|N/A|1-00:00:00|0|", "", Cause.CANCELLED),
        (Cause.PREEMPTED, "CANCELLED|None|node1|2|N/A|1-00:00:00|0|", "2", Cause.CANCELLED),
        (Cause.TIME_LIMIT, "COMPLETING|None|node1|0|N/A|1-00:00:00|0|", "", Cause.CANCELLED),
        (Cause.TIME_LIMIT, "COMPLETING|TimeLimit|node1|0|N/A|1-00:00:00|0|", "", Cause.TIME_LIMIT),
        (Cause.PREEMPTED, "COMPLETING|None|node1|1|N/A|1-00:00:00|0|", "", Cause.PREEMPTED),
        (
            Cause.PREEMPTED,
            "RUNNING|None|node1|0|2026-11-24T22:10:42|1-00:00:00|0|",
            "",
            Cause.PREEMPTED,
        ),
        (
            Cause.PREEMPTED,
            "COMPLETING|None|node1|0|2026-11-24T22:10:42|1-00:00:00|0|",
            "",
            Cause.PREEMPTED,
        ),
        (Cause.PREEMPTED, "RUNNING|None|node1|0|N/A|1-00:00:00|0|", "", Cause.PREEMPTED),
        (Cause.PREEMPTED, "RUNNING|None|node1|0|N/A|1:58|0|", "", Cause.TIME_LIMIT),
        (Cause.PREEMPTED, "RUNNING|None|node1|0|N/A|2:45|0|", "", Cause.PREEMPTED),
        (Cause.PREEMPTED, "RUNNING|None|node1|0|2026-11-24T22:10:42|0:25|0|", "", Cause.PREEMPTED),
        (Cause.INTERRUPTED, "COMPLETING|None|node1|0|N/A|1-00:00:00|0|", "", Cause.INTERRUPTED),
    ],
)
def test_the_cause_of_a_stop_is_what_slurm_reports_at_that_moment(fake, told, row, restarts, why):
    (fake / "rows").write_text(f"12_3|{row}\n")
    assert why_stopped(told, {**TASK, "SLURM_RESTART_COUNT": restarts}, 90) is why


def test_a_task_without_a_known_time_limit_is_queried_again(fake):
    squeue = fake / "bin" / "squeue"
    rows = fake / "rows"
    rows.write_text("12_3|RUNNING|None|node1|0|N/A|NOT_SET|0|\n")
    told = "12_3|RUNNING|None|node1|0|N/A|0:30|0|"
    squeue.write_text(f"#!/bin/sh\ncat '{rows}'; echo '{told}' > '{rows}'\n")
    assert why_stopped(Cause.PREEMPTED, TASK, 90) is Cause.TIME_LIMIT


def test_a_busy_controller_that_knows_no_time_left_for_seconds_is_queried_until_it_does(fake):
    squeue, counter = fake / "bin" / "squeue", fake / "asked"
    row = "12_3|RUNNING|None|node1|0|N/A"
    squeue.write_text(
        f"#!/bin/sh\necho x >> '{counter}'\n"
        f"if [ $(wc -l < '{counter}') -lt 6 ]; then echo '{row}|NOT_SET|0|'; "
        f"else echo '{row}|0:30|0|'; fi\n"
    )
    assert why_stopped(Cause.PREEMPTED, TASK, 90, NoPauses()) is Cause.TIME_LIMIT


class NoPauses(Clock):
    """A clock that does not sleep."""

    def sleep(self, seconds: float) -> None:
        pass


def test_the_cause_of_a_stop_is_that_of_its_signal_if_slurm_does_not_answer(fake):
    (fake / "bin" / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm' >&2; exit 1\n")
    assert why_stopped(Cause.PREEMPTED, TASK, 90) is Cause.PREEMPTED


def test_a_controller_that_is_away_for_a_moment_is_asked_again(fake):
    squeue = fake / "bin" / "squeue"
    answering = squeue.read_text()
    squeue.write_text(f"#!/bin/sh\ncat > '{squeue}' <<'END'\n{answering}END\nexit 1\n")
    (fake / "rows").write_text("12_3|RUNNING|None|node1|0|N/A|1-00:00:00|0|\n")
    assert requeue_if_stopped(report(RunOutcome.INTERRUPTED), StopFlag(), TASK)


EXPIRY_S = 1.5


class Elsewhere:
    """Runs of which another host has the claims, and how often they were tried to be worked on."""

    def __init__(self, output: Path, count: int = 1) -> None:
        sweep = make_sweep(shell("true"), folds=count)
        write_sweep(output, sweep)
        self.output = output
        self.runs = sweep.runs
        self.paths = [SweepPaths(output).run(run.path) for run in self.runs]
        far = replace(this_owner(), host="another-host", boot_id="another-boot")
        self.claims = []
        for run, paths in zip(self.runs, self.paths, strict=True):
            taking = take(paths, run.config_hash, far, now=time.time())
            assert isinstance(taking, Taken)
            self.claims.append(taking.claim)
        self.num_tries = 0

    def work(self) -> LocalReport:
        self.num_tries += 1
        outcome = RunOutcome.ELSEWHERE if self.num_tries == 1 else RunOutcome.DONE
        endings = {run.run_id: RunEnded(run=run, outcome=outcome) for run in self.runs}
        return LocalReport(endings=endings, was_stopped=False)

    def settle(self, stop: StopFlag | None = None, expiry_s: float = EXPIRY_S) -> LocalReport:
        stop = stop or StopFlag()
        return work_until_settled(self.work, self.output, self.runs, stop, expiry_s)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Meanwhile the owner of the first run keeps its heartbeat."""
        ended = threading.Event()

        def live() -> None:
            while not ended.wait(0.2):
                beat(self.paths[0], self.claims[0], now=time.time())

        thread = threading.Thread(target=live)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def test_the_claim_of_a_dead_node_is_waited_for_and_the_run_worked_on(tmp_path):
    elsewhere = Elsewhere(tmp_path)
    began = time.monotonic()
    assert elsewhere.settle().having(RunOutcome.DONE)
    assert time.monotonic() - began > EXPIRY_S
    assert elsewhere.num_tries == 2


def test_a_run_whose_owner_lives_is_left_to_it(tmp_path):
    elsewhere = Elsewhere(tmp_path)
    with elsewhere.alive():
        assert elsewhere.settle().having(RunOutcome.ELSEWHERE)
    assert elsewhere.num_tries == 1


def test_one_owner_that_lives_hides_no_other_that_is_dead(tmp_path):
    elsewhere = Elsewhere(tmp_path, 2)
    with elsewhere.alive():
        assert elsewhere.settle().having(RunOutcome.DONE)


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_run_that_is_given_back_or_finished_is_looked_at_again_at_once(tmp_path, is_finished):
    elsewhere = Elsewhere(tmp_path)
    paths, claim, run = elsewhere.paths[0], elsewhere.claims[0], elsewhere.runs[0]
    if is_finished:
        result = Result(
            run_id=run.run_id,
            config_hash=run.config_hash,
            axes=run.axes,
            metrics={"score": 0.5},
            attempt=claim.number,
            token=claim.token,
            started=1.0,
            finished=2.0,
            code={},
        )
        write_json(paths.result, result.to_json())
    else:
        release(paths, claim)
    began = time.monotonic()
    assert elsewhere.settle(expiry_s=60).having(RunOutcome.DONE)
    assert time.monotonic() - began < 60


def test_a_task_that_is_asked_to_stop_waits_for_no_claim(tmp_path):
    elsewhere = Elsewhere(tmp_path)
    assert elsewhere.settle(StopFlag(is_set=True)).having(RunOutcome.ELSEWHERE)
    assert elsewhere.num_tries == 1
