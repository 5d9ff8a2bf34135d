"""Every run is in exactly one shard, however runs are divided."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import SelectionError, UsageError
from merge.records.sweep import Run
from orchestrator.plan.selection import select
from orchestrator.plan.shards import parse_shard, shard_by, shard_into
from orchestrator.studies.grid import expand
from orchestrator.studies.load import load_study

STUDY = Path(__file__).resolve().parents[4] / "replicate" / "studies" / "abcb.yaml"
PUBLISHED = STUDY.parent.parent / "published"


@cache
def table() -> tuple[Run, ...]:
    """The 32 runs of the paper's tables."""
    study = load_study(STUDY, published_folders=(PUBLISHED,))
    return select(expand(study), study.axes, {})


@pytest.mark.parametrize(
    ("axes", "num_shards", "num_runs"),
    [
        (("dataset", "backbone"), 4, 8),
        (("fold",), 4, 8),
        (("dataset", "backbone", "shot"), 8, 4),
        (("dataset", "backbone", "shot", "fold"), 32, 1),
        ((), 1, 32),
    ],
)
def test_the_splits_of_s3_3(axes: tuple[str, ...], num_shards: int, num_runs: int) -> None:
    shards = shard_by(table(), axes)
    assert [len(shard.runs) for shard in shards] == [num_runs] * num_shards
    for shard in shards:
        assert all(len({run.axes[axis] for run in shard.runs}) == 1 for axis in axes)


def test_shards_are_named_by_what_their_runs_share() -> None:
    assert [shard.name for shard in shard_by(table(), ["dataset", "shot"])] == [
        "dataset=pascal5i,shot=1",
        "dataset=pascal5i,shot=5",
        "dataset=coco20i,shot=1",
        "dataset=coco20i,shot=5",
    ]
    assert [shard.name for shard in shard_into(table(), 2)] == ["1of2", "2of2"]


@given(
    st.lists(st.sampled_from(["dataset", "backbone", "shot", "fold"])),
    st.integers(1, 40),
    st.sets(st.integers(0, 31)),
)
def test_every_run_is_in_exactly_one_shard(axes: list[str], count: int, chosen: set[int]) -> None:
    runs = tuple(table()[index] for index in sorted(chosen))
    for shards in (shard_by(runs, axes), shard_into(runs, count)):
        dealt = Counter(run.run_id for shard in shards for run in shard.runs)
        assert dealt == Counter(run.run_id for run in runs)
        assert len({shard.name for shard in shards}) == len(shards)


@given(st.integers(1, 40))
def test_equal_shards_differ_by_at_most_one_run_and_share_out_the_slow_dataset(count: int) -> None:
    shards = shard_into(table(), count)
    assert len(shards) == count
    for runs in ([shard.runs for shard in shards], [_coco(shard.runs) for shard in shards]):
        sizes = [len(part) for part in runs]
        assert max(sizes) - min(sizes) <= 1


def test_a_shard_is_counted_from_one() -> None:
    assert parse_shard("1/4") == (1, 4)
    assert parse_shard("4/4") == (4, 4)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/2", "", "1 / 4"])
def test_a_shard_that_is_none_says_how_it_is_written(text: str) -> None:
    with pytest.raises(UsageError, match="INDEX/COUNT, counted from 1"):
        parse_shard(text)


def test_sharding_by_what_is_no_axis_or_into_none_is_refused() -> None:
    with pytest.raises(SelectionError, match="did you mean 'fold'"):
        shard_by(table(), ["folds"])
    with pytest.raises(UsageError, match="give 1 or more"):
        shard_into(table(), 0)


def _coco(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    return tuple(run for run in runs if run.axes["dataset"] == "coco20i")
