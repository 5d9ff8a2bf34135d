"""States: derived from facts alone, and facts read from real files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sweeps import make_sweep

from merge.records.records import AttemptRecord, Claim, Outcome, Owner, Request, RequestAction
from merge.records.result import Result
from merge.records.sweep import Run
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths
from orchestrator.machine.owners import this_owner
from orchestrator.runs.progress import Progress, read_progress
from orchestrator.runs.states import (
    STALLED_AFTER_S,
    RunFacts,
    State,
    derive_state,
    read_facts,
    read_states,
)

NOW = 1_000_000.0
OWNER = Owner(host="h", pid=7, pid_started="1", boot_id="b")
CLAIM = Claim(number=2, token="t", owner=OWNER, heartbeat=NOW - 5)
RELEASED = replace(CLAIM, released=True)
ATTEMPT = AttemptRecord(
    number=2,
    token="t",
    owner=OWNER,
    command=("true",),
    device="cpu",
    devices=("cpu0",),
    started=NOW - 100,
    code={},
)
CANCEL = Request(number=1, action=RequestAction.CANCEL, claim=2, by="somebody", host="h", time=NOW)
RETRY = replace(CANCEL, action=RequestAction.RETRY)
STALE = replace(ATTEMPT, started=NOW - STALLED_AFTER_S - 1)


def ended(outcome: Outcome, reason: str = "") -> AttemptRecord:
    return replace(ATTEMPT, ended=NOW - 1, exit_code=1, outcome=outcome, reason=reason)


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        (RunFacts(), State.PENDING, ""),
        (RunFacts(is_done=True), State.DONE, ""),
        (RunFacts(problem="claim-0001.json is torn"), State.UNKNOWN, "claim-0001.json is torn"),
        (RunFacts(claim=CLAIM, owner_alive=True), State.CLAIMED, ""),
        (RunFacts(claim=CLAIM), State.CLAIMED, ""),
        (RunFacts(claim=CLAIM, owner_alive=False), State.PENDING, ""),
        (RunFacts(claim=CLAIM, owner_alive=True, attempt=ATTEMPT), State.RUNNING, ""),
        (RunFacts(claim=CLAIM, owner_alive=True, attempt=STALE), State.STALLED, "wrote nothing"),
        (
            RunFacts(claim=CLAIM, owner_alive=True, attempt=STALE, last_output=NOW - 3),
            State.RUNNING,
            "",
        ),
        (RunFacts(claim=CLAIM, owner_alive=False, attempt=ATTEMPT), State.FAILED, "lost:.*died"),
        (
            RunFacts(claim=replace(CLAIM, heartbeat=NOW - 61), attempt=ATTEMPT),
            State.FAILED,
            "lost:.*process 7 on h",
        ),
        (
            RunFacts(claim=RELEASED, attempt=ended(Outcome.FAILED, "no mask")),
            State.FAILED,
            "no mask",
        ),
        (
            RunFacts(claim=CLAIM, owner_alive=True, attempt=ended(Outcome.FAILED, "no mask")),
            State.FAILED,
            "no mask",
        ),
        (
            RunFacts(claim=RELEASED, attempt=ended(Outcome.INTERRUPTED, "on request")),
            State.PENDING,
            "on request",
        ),
        (RunFacts(claim=RELEASED, attempt=ended(Outcome.DONE)), State.PENDING, "was removed"),
        (RunFacts(claim=RELEASED, attempt=ended(Outcome.LOST, "late")), State.PENDING, "late"),
        (RunFacts(claim=RELEASED, attempt=ATTEMPT), State.FAILED, "lost:"),
        (RunFacts(claim=RELEASED), State.PENDING, ""),
        (RunFacts(request=CANCEL), State.CANCELLED, "by somebody on h"),
        (RunFacts(request=replace(CANCEL, action=RequestAction.RETRY)), State.PENDING, ""),
        (
            RunFacts(request=CANCEL, claim=RELEASED, attempt=ended(Outcome.INTERRUPTED)),
            State.CANCELLED,
            "`replicate retry` takes it back",
        ),
        (
            RunFacts(request=CANCEL, claim=CLAIM, owner_alive=True, attempt=ATTEMPT),
            State.RUNNING,
            "",
        ),
        (RunFacts(request=CANCEL, is_done=True), State.DONE, ""),
        (
            RunFacts(request=RETRY, claim=RELEASED, attempt=ended(Outcome.FAILED, "no mask")),
            State.PENDING,
            "to be tried again",
        ),
        (
            RunFacts(
                request=replace(RETRY, claim=1),
                claim=RELEASED,
                attempt=ended(Outcome.FAILED, "no mask"),
            ),
            State.FAILED,
            "no mask",
        ),
    ],
)
def test_facts_amount_to_one_state(facts, state, reason):

    derived = derive_state(facts, NOW)
    assert derived.state is state
    assert re.search(reason, derived.reason)
    assert bool(reason) == bool(derived.reason)


def test_a_running_run_tells_its_progress_and_ages():
    facts = RunFacts(
        claim=CLAIM,
        owner_alive=True,
        attempt=ATTEMPT,
        progress=Progress(event="epoch", time=NOW - 2, epoch=3, step=40, loss=0.5),
        last_output=NOW - 2,
    )
    state = derive_state(facts, NOW)
    assert (state.attempt, state.host, state.epoch, state.step, state.loss) == (2, "h", 3, 40, 0.5)
    assert (state.attempt_age_s, state.heartbeat_age_s, state.output_age_s) == (100, 5, 2)


@pytest.fixture
def run() -> Run:
    return make_sweep(["true"]).runs[0]


@pytest.fixture
def paths(tmp_path, run) -> RunPaths:
    return RunPaths(tmp_path / run.path)


def state_on_disk(output: Path, run: Run) -> State:
    return derive_state(read_facts(output, run), time.time()).state


def write_claim(paths: RunPaths, **fields: object) -> None:
    claim = Claim(number=1, token="t", owner=this_owner(), heartbeat=time.time())
    write_json(paths.claim(1), replace(claim, **fields).to_json())


def write_attempt(paths: RunPaths, **fields: object) -> None:
    record = replace(ATTEMPT, number=1, owner=this_owner(), started=time.time())
    write_json(paths.attempt(1).record, replace(record, **fields).to_json())


def result_of(run: Run) -> Result:
    return Result(
        run_id=run.run_id,
        config_hash=run.config_hash,
        axes={},
        metrics={"score": 0.5},
        attempt=1,
        token="t",
        started=1.0,
        finished=2.0,
    )


def write_result(paths: RunPaths, run: Run, **fields: object) -> None:
    write_json(paths.result, replace(result_of(run), **fields).to_json())


def test_a_life_is_read_from_its_files(tmp_path, run, paths):
    assert state_on_disk(tmp_path, run) is State.PENDING
    write_claim(paths)
    assert state_on_disk(tmp_path, run) is State.CLAIMED
    write_attempt(paths)
    assert state_on_disk(tmp_path, run) is State.RUNNING
    write_attempt(paths, outcome=Outcome.FAILED, reason="no mask")
    write_claim(paths, released=True)
    assert state_on_disk(tmp_path, run) is State.FAILED
    write_result(paths, run)
    assert state_on_disk(tmp_path, run) is State.DONE


@pytest.mark.parametrize("skew_s", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize(("age_s", "state"), [(50.0, State.RUNNING), (62.0, State.FAILED)])
def test_claims_of_other_hosts_are_judged_by_the_files_clock_alone(
    tmp_path, run, paths, age_s, state, skew_s
):
    """Neither its owner's clock counts nor the one of whoever looks."""
    write_claim(paths, owner=OWNER, heartbeat=time.time() + skew_s)
    write_attempt(paths)
    then = time.time() - age_s
    os.utime(paths.claim(1), (then, then))
    for now in (time.time() - 7200, time.time(), time.time() + 7200):
        (found,) = read_states(tmp_path, [run], now)
        assert found.state is state
        assert found.heartbeat_age_s == pytest.approx(age_s, abs=5)
    assert not [*tmp_path.glob(".*")]


def test_only_the_last_attempt_counts(tmp_path, run, paths):
    write_claim(paths, released=True)
    write_attempt(paths, outcome=Outcome.FAILED, reason="no mask")
    claim = Claim(number=2, token="u", owner=this_owner(), heartbeat=time.time())
    write_json(paths.claim(2), claim.to_json())
    assert state_on_disk(tmp_path, run) is State.CLAIMED


@pytest.mark.parametrize("name", ["result", "claim", "attempt"])
def test_a_damaged_record_is_unknown_not_pending(tmp_path, run, paths, name):
    write_claim(paths)
    write_attempt(paths)
    damaged = {
        "result": paths.result,
        "claim": paths.claim(1),
        "attempt": paths.attempt(1).record,
    }[name]
    damaged.write_text('{"schema": 1, "half')
    state = derive_state(read_facts(tmp_path, run), time.time())
    assert state.state is State.UNKNOWN
    assert damaged.name in state.reason


def test_a_result_of_another_configuration_is_unknown_not_done(tmp_path, run, paths):
    write_result(paths, run, config_hash="f" * 16)
    assert state_on_disk(tmp_path, run) is State.UNKNOWN


def test_a_trainer_that_only_prints_is_not_stalled(tmp_path, run, paths):
    write_claim(paths)
    write_attempt(paths, started=time.time())
    began = time.time() - 2 * STALLED_AFTER_S
    os.utime(paths.attempt(1).record, (began, began))
    assert state_on_disk(tmp_path, run) is State.STALLED
    paths.attempt(1).stdout.write_text("epoch 1\n")
    assert state_on_disk(tmp_path, run) is State.RUNNING


def test_the_age_of_an_attempt_does_not_depend_on_its_host_s_clock(tmp_path, run, paths):
    write_claim(paths)
    write_attempt(paths, started=time.time() + 5000)
    began = time.time() - 1000
    os.utime(paths.attempt(1).record, (began, began))
    (state,) = read_states(tmp_path, [run], time.time())
    assert state.attempt_age_s == pytest.approx(1000, abs=30)
    assert state.state is State.STALLED


def test_a_run_that_was_cancelled_while_a_process_has_it_says_so(tmp_path, run, paths):
    write_claim(paths)
    (before,) = read_states(tmp_path, [run], time.time())
    write_json(paths.request(1), CANCEL.to_json())
    (after,) = read_states(tmp_path, [run], time.time())
    assert (before.state, before.cancelled, after.state) == ("claimed", "", "claimed")
    assert after.cancelled.startswith("cancelled by somebody on h")
    assert "with --retry-cancelled" in after.cancelled


def test_progress_is_the_newest_of_each_number(tmp_path):
    events = tmp_path / "events.jsonl"
    events.write_text(
        '{"time": 1, "event": "step", "epoch": 0, "step": 9, "loss": 0.9}\n'
        '{"time": 2, "event": "step", "epoch": 1, "step": 10, "loss": 0.8}\n'
        "not json\n"
        '{"time": 3, "event": "eval", "miou": 0.4}\n'
        '{"time": 4, "event": "step", "epo'
    )
    assert read_progress(events) == Progress(event="eval", time=3, epoch=1, step=10, loss=0.8)


@settings(max_examples=30)
@given(st.integers(0, 4000), st.integers(0, 120))
def test_any_cut_of_a_log_tells_its_last_whole_line(tmp_path_factory, lines, cut):
    events = tmp_path_factory.mktemp("log") / "events.jsonl"
    whole = [f'{{"time": {n}, "event": "step", "epoch": {n}}}\n' for n in range(lines)]
    torn = f'{{"time": {lines}, "event": "step", "epoch": {lines}, "note": "{"x" * 100}"}}'[:cut]
    events.write_text("".join(whole) + torn)
    progress = read_progress(events)
    assert (progress.epoch if progress else None) == (lines - 1 if lines else None)


def test_ten_thousand_runs_are_read_and_judged_within_the_budget(tmp_path):
    runs = make_sweep(["true"], folds=10_000).runs
    for run in runs[::2]:
        folder = tmp_path / run.path
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result_of(run).to_json()))
    began = time.process_time()
    here = this_owner()
    states = [derive_state(read_facts(tmp_path, run, here), NOW).state for run in runs]
    seconds = time.process_time() - began
    assert states == [State.DONE, State.PENDING] * 5000
    assert seconds < 1.0


def test_reading_states_imports_nothing_heavy():
    code = (
        "import sys, orchestrator.runs.states;"
        "print(*{'pydantic', 'yaml', 'torch', 'pandas', 'numpy', 'filelock', 'subprocess',"
        " 'socket', 'rich', 'submitit', 'boto3'} & set(sys.modules))"
    )
    heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert heavy.stdout.split() == []
