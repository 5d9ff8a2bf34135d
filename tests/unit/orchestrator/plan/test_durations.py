"""Expected durations are taken from what was measured, and say from what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.grids import make_grid, make_result

from merge.records.records import AttemptRecord, Outcome
from merge.records.sweep import Run
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths
from orchestrator.machine.owners import this_owner
from orchestrator.plan.durations import estimate, estimate_from, measure


def grid(figures: dict[str, float | None]) -> tuple[Run, ...]:
    """Cells of two folds; `figures` are the study's hours by cell."""
    sweep = make_grid(cells=list(figures), folds=(0, 1))
    return tuple(
        replace(run, resources=replace(run.resources, hours=figures[run.cell]))
        for run in sweep.runs
    )


@pytest.mark.parametrize(
    ("figures", "measured", "run_id", "hours", "source"),
    [
        ({"a": None}, {}, "a-fold0", 1.0, "unknown"),
        ({"a": 5.0}, {}, "a-fold0", 5.0, "study"),
        ({"a": 5.0}, {"a-fold0": 2.0}, "a-fold0", 2.0, "measured"),
        ({"a": 5.0}, {"a-fold0": 2.0}, "a-fold1", 2.0, "cell"),
        ({"a": 4.0, "b": 10.0}, {"a-fold0": 2.0}, "b-fold0", 5.0, "scaled"),
        ({"a": 4.0, "b": None}, {"a-fold0": 2.0}, "b-fold0", 2.0, "others"),
    ],
)
def test_the_best_knowledge_there_is_decides(
    figures: dict[str, float | None],
    measured: dict[str, float],
    run_id: str,
    hours: float,
    source: str,
) -> None:
    estimated = estimate(grid(figures), measured)[run_id]
    assert (estimated.hours, estimated.source) == (hours, source)


def test_a_run_in_several_attempts_took_as_long_as_all_of_them(tmp_path: Path) -> None:
    first, second = grid({"a": None})
    paths = RunPaths(tmp_path / first.path)
    record = AttemptRecord(
        number=1,
        token="t",
        owner=this_owner(),
        command=("true",),
        device="cpu",
        devices=("cpu",),
        started=1000.0,
        code={},
        ended=1000.0 + 3600,
        exit_code=0,
        outcome=Outcome.INTERRUPTED,
    )
    write_json(paths.attempt(1).record, record.to_json())
    result = make_result(first, 0.5, attempt=2, started=9000.0, finished=9000.0 + 1800)
    write_json(paths.result, result.to_json())
    assert measure(tmp_path, (first, second)) == {first.run_id: pytest.approx(1.5)}


def test_results_of_another_configuration_and_damaged_ones_measure_nothing(tmp_path: Path) -> None:
    first, second = grid({"a": None})
    foreign = make_result(first, 0.5, config_hash="0" * 16)
    write_json(RunPaths(tmp_path / first.path).result, foreign.to_json())
    path = RunPaths(tmp_path / second.path).result
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert measure(tmp_path, (first, second)) == {}


def test_a_clock_that_was_set_back_gives_no_negative_hours(tmp_path: Path) -> None:
    first, second = grid({"a": None})
    write_json(
        RunPaths(tmp_path / first.path).result,
        make_result(first, 0.5, started=7200.0, finished=3600.0).to_json(),
    )
    write_json(
        RunPaths(tmp_path / second.path).result,
        make_result(second, 0.5, attempt=2, started=0.0, finished=3600.0).to_json(),
    )
    attempt = AttemptRecord(
        number=1,
        token="t",
        owner=this_owner(),
        command=(),
        device="cpu",
        devices=(),
        started=9000.0,
        ended=1800.0,
        outcome=Outcome.FAILED,
        code={},
    )
    write_json(RunPaths(tmp_path / second.path).attempt(1).record, attempt.to_json())
    assert measure(tmp_path, (first, second)) == {second.run_id: 1.0}


def record(number: int, **fields: object) -> AttemptRecord:
    """An attempt that took an hour, unless `fields` say otherwise."""
    known = {
        **{"token": "t", "owner": this_owner(), "command": (), "device": "cpu", "devices": ()},
        **{"code": {}, "started": 1000.0, "ended": 4600.0, "outcome": Outcome.INTERRUPTED},
    }
    return AttemptRecord(number=number, **{**known, **fields})


def test_a_recorded_duration_counts_more_than_the_times_of_day(tmp_path: Path) -> None:
    first, second = grid({"a": None})
    stepped = make_result(first, 0.5, started=7200.0, finished=3600.0)
    write_json(RunPaths(tmp_path / first.path).result, replace(stepped, trained_s=1800.0).to_json())
    # From 1970 to 2020: a clock that was set while the run went on.
    far = make_result(second, 0.5, started=10.0, finished=1.6e9)
    write_json(RunPaths(tmp_path / second.path).result, far.to_json())
    assert measure(tmp_path, (first, second)) == {first.run_id: 0.5}


def test_an_attempt_whose_executor_was_killed_took_until_its_last_event(tmp_path: Path) -> None:
    run, _ = grid({"a": None})
    paths = RunPaths(tmp_path / run.path)
    write_json(paths.attempt(1).record, record(1, ended=None, outcome=None).to_json())
    paths.attempt(1).events.write_text('{"time": 4600.0, "event": "step"}\n')
    write_json(paths.result, make_result(run, 0.5, attempt=2, started=0.0, finished=60.0).to_json())
    assert measure(tmp_path, (run,))[run.run_id] == pytest.approx(1 + 1 / 60)
    # The trainer's own clock, where it reports it, is not moved by a step of the other one.
    paths.attempt(1).events.write_text('{"time": 9.0, "event": "step", "elapsed_s": 7200}\n')
    assert measure(tmp_path, (run,))[run.run_id] == pytest.approx(2 + 1 / 60)


def test_an_interrupted_run_goes_on_from_what_it_was_trained(tmp_path: Path) -> None:
    first, second = grid({"a": 4.0})
    for run in (first, second):
        paths = RunPaths(tmp_path / run.path)
        paths.root.mkdir(parents=True)
        paths.claim(1).touch()
        write_json(paths.attempt(1).record, record(1, seconds=7200.0).to_json())
    # The second left no checkpoint, so it begins anew.
    RunPaths(tmp_path / first.path).checkpoints.mkdir()
    RunPaths(tmp_path / first.path).last_checkpoint.touch()
    (RunPaths(tmp_path / second.path).root / "tensorboard").mkdir()
    estimates = estimate_from(tmp_path, (first, second))
    assert [estimates[run.run_id].left_h for run in (first, second)] == [2.0, 4.0]
    # A command may keep its checkpoint under any name.
    (RunPaths(tmp_path / second.path).root / "my.ckpt").touch()
    assert estimate_from(tmp_path, (second,))[second.run_id].left_h == 2.0
