"""When a sweep will be done is told from what its runs took, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.grids import make_grid

from orchestrator.plan.forecast import look_ahead
from orchestrator.runs.states import RunState, State

RUNS = make_grid(cells=("a", "b"), folds=(0, 1)).runs
IDS = [run.run_id for run in RUNS]


def states(*words: State, age_h: float = 0.5) -> dict[str, RunState]:
    return {
        run_id: RunState(state=state, attempt_age_s=3600 * age_h)
        for run_id, state in zip(IDS, words, strict=True)
    }


def test_what_is_left_is_spread_over_what_goes_on_now() -> None:
    now = states(State.DONE, State.RUNNING, State.PENDING, State.PENDING)
    outlook = look_ahead(RUNS, now, {IDS[0]: 2.0})
    assert outlook is not None
    assert (outlook.num_left, outlook.at_once) == (3, 1)
    assert outlook.training_h == pytest.approx(1.5 + 2 + 2)
    assert outlook.done_in_h == pytest.approx(5.5)
    assert outlook.cells_done_in_h == {"a": pytest.approx(1.5), "b": pytest.approx(5.5)}
    assert any("measured" in basis for basis in outlook.bases)


def test_two_at_a_time_take_half_as_long() -> None:
    now = states(State.RUNNING, State.STALLED, State.PENDING, State.PENDING, age_h=0.0)
    runs = tuple(replace(r, resources=replace(r.resources, hours=3.0)) for r in RUNS)
    outlook = look_ahead(runs, now, {})
    assert outlook is not None
    assert outlook.done_in_h == pytest.approx(6.0)


def test_a_run_that_takes_longer_than_expected_is_not_owed_time() -> None:
    now = states(State.DONE, State.RUNNING, State.DONE, State.DONE, age_h=9.0)
    outlook = look_ahead(RUNS, now, dict.fromkeys((IDS[0], IDS[2], IDS[3]), 1.0))
    assert outlook is not None
    assert outlook.done_in_h == 0.0


def test_where_nothing_goes_on_no_end_is_promised() -> None:
    now = states(State.DONE, State.PENDING, State.FAILED, State.UNKNOWN)
    outlook = look_ahead(RUNS, now, {IDS[0]: 2.0})
    assert outlook is not None
    assert (outlook.num_left, outlook.done_in_h, outlook.cells_done_in_h) == (1, None, {})


@pytest.mark.parametrize(
    "now",
    [
        states(State.DONE, State.DONE, State.FAILED, State.DONE),
        states(State.RUNNING, State.PENDING, State.PENDING, State.PENDING),
    ],
)
def test_nothing_left_or_nothing_known_has_no_outlook(now: dict[str, RunState]) -> None:
    assert look_ahead(RUNS, now, {}) is None
