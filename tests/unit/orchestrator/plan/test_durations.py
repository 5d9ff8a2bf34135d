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
from orchestrator.plan.durations import estimate, measure


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
