"""The local executor on real commands: scheduling, results, failures, records it must not touch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.executors import run_here, wait_until
from support.sweeps import LEAVE_RESULT, make_sweep, shell

from merge.errors import StorageError, UsageError
from merge.records.records import Outcome, read_attempt, read_claim
from merge.records.result import read_result
from merge.records.sweep import Run
from merge.storage.clock import SystemClock
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.local.events import (
    Notice,
    RunEnded,
    RunOutcome,
    RunProgressed,
    RunsCompleted,
    RunStarted,
)
from orchestrator.plan.durations import measure
from orchestrator.runs.states import State, derive_state, read_facts

pytestmark = pytest.mark.system

OK = shell(LEAVE_RESULT)


def paths_of(output: Path, run: Run) -> RunPaths:
    return SweepPaths(output).run(run.path)


def outcomes(report) -> list[RunOutcome]:
    return [ending.outcome for _, ending in sorted(report.endings.items())]


def test_every_run_leaves_a_result_that_says_what_it_is(tmp_path):
    sweep = make_sweep(OK, folds=3)
    report = run_here(sweep, tmp_path, slots=2)
    assert outcomes(report) == [RunOutcome.DONE] * 3
    assert report.exit_code == 0
    for fold, run in enumerate(sweep.runs):
        paths = paths_of(tmp_path, run)
        result = read_result(paths.result)
        attempt = read_attempt(paths.attempt(1).record)
        assert (result.run_id, result.config_hash) == (run.run_id, run.config_hash)
        assert result.metrics == {"score": fold}
        assert (result.attempt, result.token) == (1, read_claim(paths.claim(1)).token)
        assert result.code == {"source": "test"}
        assert attempt.outcome is Outcome.DONE
        assert attempt.command == ("sh", "-c", LEAVE_RESULT, "sh", str(fold))
        assert read_claim(paths.claim(1)).released
        assert json.loads(paths.spec.read_text()) == run.to_spec(sweep)


def test_the_same_command_again_starts_nothing(tmp_path):
    sweep = make_sweep(OK, folds=2)
    run_here(sweep, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    events = []
    report = run_here(sweep, tmp_path, events=events)
    assert outcomes(report) == [RunOutcome.ALREADY_DONE] * 2
    assert report.exit_code == 0
    assert [h.value for h in events if isinstance(h, RunEnded)] == [0, 1]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == before


def test_devices_are_never_shared_and_all_are_used(tmp_path):
    events = []
    sweep = make_sweep(
        shell("sleep 0.2;" + LEAVE_RESULT), folds=6, devices_per_run=2, launcher="none"
    )
    run_here(sweep, tmp_path, slots=4, events=events)
    busy: dict[str, tuple[str, ...]] = {}
    most = 0
    for event in events:
        if isinstance(event, RunStarted):
            taken = {device for devices in busy.values() for device in devices}
            assert not taken & set(event.devices)
            busy[event.run.run_id] = event.devices
            most = max(most, len(busy))
        elif isinstance(event, RunEnded):
            del busy[event.run.run_id]
    assert most == 2
    assert busy == {}


def test_a_failing_run_stops_no_other_and_is_tried_once(tmp_path):
    fail = shell("echo first >&2; echo it broke >&2; exit 3")
    sweep = make_sweep(commands=[OK, fail, OK])
    report = run_here(sweep, tmp_path)
    assert outcomes(report) == [RunOutcome.DONE, RunOutcome.FAILED, RunOutcome.DONE]
    assert report.exit_code == 1
    assert report.endings["run-fold1"].reason == "it broke"
    paths = paths_of(tmp_path, sweep.runs[1])
    attempt = read_attempt(paths.attempt(1).record)
    assert (attempt.outcome, attempt.exit_code, attempt.reason) == (Outcome.FAILED, 3, "it broke")
    assert paths.attempt(1).stderr.read_text() == "first\nit broke\n"
    assert paths.claim_numbers() == [1]


def test_the_next_invocation_tries_a_failed_run_again(tmp_path):
    once = shell(
        '[ -e "$PAPERGRID_RUN_DIR/tried" ] || { touch "$PAPERGRID_RUN_DIR/tried"; exit 1; };'
        + LEAVE_RESULT
    )
    sweep = make_sweep(once)
    assert outcomes(run_here(sweep, tmp_path)) == [RunOutcome.FAILED]
    assert outcomes(run_here(sweep, tmp_path)) == [RunOutcome.DONE]
    assert read_result(paths_of(tmp_path, sweep.runs[0]).result).attempt == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program-here",), "cannot start 'no-such-program-here'.*correct the study"),
        (("/etc/passwd",), "cannot start '/etc/passwd' \\(Permission denied\\)"),
        (shell("no-such-program-here"), "not found"),
        (shell("true"), "left no result.json"),
        (shell('echo garbage > "$PAPERGRID_ATTEMPT_DIR/result.json"'), "is not valid JSON"),
        (shell(LEAVE_RESULT.replace('"$1"', "NaN")), "NaN is not JSON"),
        (shell("kill -KILL $$"), "killed by SIGKILL"),
        (("sh", "{unknown}"), r"no value for \{unknown\}"),
    ],
)
def test_a_command_that_cannot_do_it_fails_with_the_reason(tmp_path, command, words):
    report = run_here(make_sweep(command), tmp_path)
    (ending,) = report.endings.values()
    assert ending.outcome is RunOutcome.FAILED
    assert re.search(words, ending.reason)
    assert report.exit_code == 1


def test_a_folder_that_is_not_there_is_named(tmp_path):
    report = run_here(make_sweep(OK), tmp_path, cwd=tmp_path / "gone")
    (ending,) = report.endings.values()
    assert ending.reason == f"cannot start in {tmp_path / 'gone'}: there is no such folder"


def test_a_failure_is_seen_in_the_state(tmp_path):
    sweep = make_sweep(("no-such-program-here",))
    run_here(sweep, tmp_path)
    state = derive_state(read_facts(tmp_path, sweep.runs[0]), 0.0)
    assert state.state is State.FAILED
    assert "no-such-program-here" in state.reason


def test_a_trainer_that_asks_to_try_later_makes_the_sweep_retryable(tmp_path):
    report = run_here(make_sweep(shell("echo disk full >&2; exit 75")), tmp_path)
    assert outcomes(report) == [RunOutcome.STORAGE]
    assert report.exit_code == StorageError.exit_code


def test_commands_are_started_where_the_person_stands(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "train.sh").write_text(LEAVE_RESULT)
    sweep = make_sweep(("sh", "train.sh", "{fold}"))
    report = run_here(sweep, tmp_path / "out", cwd=tmp_path / "here")
    assert report.exit_code == 0


def test_events_are_told_while_a_run_goes_on(tmp_path):
    script = (
        'echo "{\\"time\\": 5, \\"event\\": \\"step\\", \\"epoch\\": 4, \\"loss\\": 0.5}"'
        ' > "$PAPERGRID_ATTEMPT_DIR/events.jsonl";'
        'until [ -e "$PAPERGRID_RUN_DIR/seen" ]; do sleep 0.02; done;' + LEAVE_RESULT
    )
    events = Seeing(tmp_path)
    run_here(make_sweep(shell(script)), tmp_path, events=events)
    kinds = [type(event) for event in events]
    assert kinds == [RunStarted, RunProgressed, RunEnded, RunsCompleted]
    assert (events[1].progress.epoch, events[1].progress.loss) == (4, 0.5)


def test_a_trainer_that_makes_folders_of_its_logs_harms_no_other(tmp_path):
    odd = shell(
        'cd "$PAPERGRID_ATTEMPT_DIR"; rm stdout.log stderr.log;'
        "mkdir events.jsonl stdout.log stderr.log error.json; sleep 1.2;" + LEAVE_RESULT
    )
    sweep = make_sweep(commands=[odd, shell("sleep 1.2;" + LEAVE_RESULT), shell("exit 3")])
    report = run_here(sweep, tmp_path, slots=2)
    assert outcomes(report) == [RunOutcome.DONE, RunOutcome.DONE, RunOutcome.FAILED]


class Seeing(list):
    """Events; the first progress lets its run end."""

    def __init__(self, output: Path) -> None:
        super().__init__()
        self.output = output

    def append(self, event: object) -> None:
        super().append(event)
        if isinstance(event, RunProgressed):
            (self.output / event.run.path / "seen").touch()


def test_a_trainer_that_leaves_pipes_keeps_no_executor_waiting(tmp_path):
    pipes = shell(
        'cd "$PAPERGRID_ATTEMPT_DIR"; mkfifo events.jsonl error.json result.json; sleep 1'
    )
    sweep = make_sweep(commands=[pipes, OK])
    report = run_here(sweep, tmp_path)
    assert outcomes(report) == [RunOutcome.FAILED, RunOutcome.DONE]
    assert "result.json cannot be read (it is a pipe" in report.endings["run-fold0"].reason


class SteppingClock(SystemClock):
    """The clock of a host that is set back by an hour at each look."""

    num_looks = 0

    def now(self) -> float:
        SteppingClock.num_looks += 1
        return super().now() - 3600 * SteppingClock.num_looks


def test_a_clock_that_is_set_back_gives_no_negative_durations(tmp_path):
    sweep = make_sweep(commands=[shell("sleep 0.2;" + LEAVE_RESULT)])
    report = run_here(sweep, tmp_path, clock=SteppingClock())
    [run] = sweep.runs
    result = read_result(paths_of(tmp_path, run).result)
    assert result.finished < result.started
    assert 0.2 <= result.trained_s < 60
    assert 0.2 <= report.endings[run.run_id].seconds < 60
    assert read_attempt(paths_of(tmp_path, run).attempt(1).record).seconds == result.trained_s
    assert 0 < measure(tmp_path, sweep.runs)[run.run_id] < 1


def test_names_of_files_that_are_no_utf_8_spoil_no_result_and_no_reason(tmp_path):
    """Python hands them on as halves of surrogate pairs, which JSON escapes and UTF-8 lacks."""
    done = (
        """printf '{"metrics": {"score": 1},"""
        """ "details": {"caf\\\\udce9": ["\\\\udce9\\\\ud83d\\\\ude00"]}}'"""
        ' > "$PAPERGRID_ATTEMPT_DIR/result.json"'
    )
    fails = (
        """printf '{"kind": "data", "message": "no caf\\\\udce9.png"}'"""
        ' > "$PAPERGRID_ATTEMPT_DIR/error.json"; exit 1'
    )
    sweep = make_sweep(commands=[shell(done), shell(fails)])
    report = run_here(sweep, tmp_path)
    assert outcomes(report) == [RunOutcome.DONE, RunOutcome.FAILED]
    result = read_result(paths_of(tmp_path, sweep.runs[0]).result)
    assert result.details == {"caf?": ["?\N{GRINNING FACE}"]}
    paths = paths_of(tmp_path, sweep.runs[1])
    assert read_attempt(paths.attempt(1).record).reason == "data: no caf?.png"
    assert read_claim(paths.claim(1)).released


def test_completions_are_told_once_a_result_lies_there(tmp_path):
    sweep = make_sweep(commands=[OK, shell("exit 1"), OK])
    completed = []

    def see(runs: Sequence[Run]) -> None:
        for run in runs:
            assert paths_of(tmp_path, run).result.exists()
            completed.append(run.run_id)

    run_here(sweep, tmp_path, on_completion=see)
    assert completed == ["run-fold0", "run-fold2"]


def test_runs_that_end_while_others_are_announced_are_announced_together(tmp_path):
    """To merge once for each of a thousand short runs would take longer than the runs."""
    sweep = make_sweep(OK, folds=12)
    calls: list[list[Run]] = []

    def see(runs: Sequence[Run]) -> None:
        calls.append(list(runs))
        begun = [run for run in sweep.runs if paths_of(tmp_path, run).claim(1).exists()]
        for run in begun:
            wait_until(paths_of(tmp_path, run).attempt(1).result.exists, "the end of the others")

    assert run_here(sweep, tmp_path, slots=4, on_completion=see).exit_code == 0
    told = [run.run_id for runs in calls for run in runs]
    assert sorted(told) == sorted(run.run_id for run in sweep.runs)
    assert len(calls) < len(sweep.runs)


def test_what_fails_after_completions_is_reported_once_and_stops_nothing(tmp_path):
    def refuse(runs: Sequence[Run]) -> None:
        raise StorageError("the merged view cannot be written")

    events = []
    report = run_here(make_sweep(OK, folds=2), tmp_path, on_completion=refuse, events=events)
    assert report.exit_code == 0
    assert sum(isinstance(h, Notice) and "merged view" in h.message for h in events) == 1


def spoil_result(paths: RunPaths) -> Path:
    paths.result.write_text('{"schema": 1, "run_id"')
    return paths.result


def foreign_result(paths: RunPaths) -> Path:
    other = make_sweep(OK, folds=1, config={"lr": 7})
    run_here(other, paths.root.parents[1] / "other")
    result = paths.root.parents[1] / "other" / other.runs[0].path / "result.json"
    paths.result.write_bytes(result.read_bytes())
    return paths.result


def spoil_spec(paths: RunPaths) -> Path:
    paths.spec.write_text("{")
    return paths.spec


def change_spec(paths: RunPaths) -> Path:
    paths.spec.write_text('{"schema": 1, "config": {"fold": 9}}')
    return paths.spec


def spoil_claim(paths: RunPaths) -> Path:
    paths.claim(1).write_text("")
    return paths.claim(1)


@pytest.mark.parametrize(
    "damage", [spoil_result, foreign_result, spoil_spec, change_spec, spoil_claim]
)
def test_a_record_that_is_not_ours_is_named_and_left_alone_and_others_go_on(tmp_path, damage):
    sweep = make_sweep(OK, folds=2)
    paths = paths_of(tmp_path, sweep.runs[0])
    paths.root.mkdir(parents=True)
    damaged = damage(paths)
    content = damaged.read_bytes()
    report = run_here(sweep, tmp_path)
    assert outcomes(report) == [RunOutcome.REFUSED, RunOutcome.DONE]
    assert str(damaged) in report.endings["run-fold0"].reason
    assert report.exit_code == 1
    assert damaged.read_bytes() == content
    assert not paths.attempt(1).root.exists()


def test_a_study_for_gpus_is_refused_on_cpu_slots_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="needs a GPU"):
        run_here(make_sweep(OK, device="cuda"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_caller_leaves_no_process_and_no_claim(tmp_path):
    sweep = make_sweep(shell("sleep 60"))

    def break_off(event: object) -> None:
        raise BrokenPipeError

    from orchestrator.local.executor import LocalSettings, run_local
    from orchestrator.machine.devices import Devices
    from orchestrator.machine.guard import marked_processes

    settings = LocalSettings(devices=Devices(kind="cpu", slots=("cpu0",)), cache_dir=tmp_path)
    with pytest.raises(BrokenPipeError):
        run_local(sweep, sweep.runs, tmp_path, settings, break_off)
    claim = read_claim(paths_of(tmp_path, sweep.runs[0]).claim(1))
    assert claim.released
    assert marked_processes("PAPERGRID_TOKEN", claim.token) == []
