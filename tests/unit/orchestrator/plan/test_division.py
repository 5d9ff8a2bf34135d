"""Servers that ask at different times, knowing different durations, get one division."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.grids import make_grid

from merge.errors import RecordError, SelectionError, UsageError
from orchestrator.plan.division import Division, parse_division
from orchestrator.plan.durations import Estimate
from orchestrator.plan.shards import settle_shards, settled_shards

RUNS = make_grid(folds=range(6)).runs
EQUAL = {run.run_id: Estimate(1.0, "unknown") for run in RUNS}
UNEQUAL = {run.run_id: Estimate(float(i + 1), "measured") for i, run in enumerate(RUNS)}


def test_a_settled_division_outlives_better_knowledge(tmp_path: Path) -> None:
    division = parse_division(["balanced"], "1/2")
    first = division.divide(RUNS, EQUAL, tmp_path)
    assert settle_shards(tmp_path, first) == first
    assert division.divide(RUNS, UNEQUAL, None) != first
    assert division.divide(RUNS, UNEQUAL, tmp_path) == first
    assert division.pick(first) == (first[0],)


def test_the_second_of_two_that_settle_at_once_is_given_the_first_ones_division(
    tmp_path: Path,
) -> None:
    division = parse_division(["balanced"], None, 3)
    ours, theirs = (division.divide(RUNS, hours, None) for hours in (EQUAL, UNEQUAL))
    assert settle_shards(tmp_path, theirs) == theirs
    assert settle_shards(tmp_path, ours) == theirs


def test_another_selection_is_divided_by_itself(tmp_path: Path) -> None:
    division = parse_division(["balanced"], None, 2)
    settle_shards(tmp_path, division.divide(RUNS, EQUAL, None))
    assert settled_shards(tmp_path, RUNS[:5], 2) is None
    assert settled_shards(tmp_path, RUNS, 3) is None


def test_a_division_changed_by_hand_is_refused(tmp_path: Path) -> None:
    settle_shards(tmp_path, parse_division([], None, 2).divide(RUNS, EQUAL, None))
    (path,) = (tmp_path / "shards").iterdir()
    path.write_text(path.read_text().replace("fold5", "fold4"))
    with pytest.raises(RecordError, match="changed by hand"):
        settled_shards(tmp_path, RUNS, 2)


def test_what_is_asked_for_must_agree() -> None:
    assert parse_division([], None, 4) == Division(by=("balanced",), count=4)
    assert parse_division(["run"], None) == Division(by=("run",))
    with pytest.raises(UsageError, match="needs the number of shards"):
        parse_division(["balanced"], None)
    with pytest.raises(UsageError, match="do not agree"):
        parse_division([], "1/2", 3)
    for shard, count in (("1/999999999", None), (None, 10**20), (None, 0)):
        with pytest.raises(UsageError, match="shards: give 1 to 100000"):
            parse_division([], shard, count)
    with pytest.raises(SelectionError, match="makes 6 shards here, not 4"):
        parse_division(["run"], None, 4).divide(RUNS, EQUAL, None)


def test_by_the_word_run_every_run_is_a_shard() -> None:
    shards = parse_division(["run"], None).divide(RUNS, EQUAL, None)
    assert [shard.name for shard in shards] == [run.run_id for run in RUNS]
