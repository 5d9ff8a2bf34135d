"""Plans of evaluations: their hashes, what changes a run, and hashes that are known later."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.grids import make_grid

from merge.records.checkpoints import Checkpoint
from merge.records.config_hash import hash_of_run, hash_problem
from merge.records.plan_changes import plan_changes
from merge.records.plan_json import plan_from_json, plan_to_json
from merge.records.plan_union import common_plan, grown_plan
from merge.records.sweep import sweep_from_json


def evaluation(sweep, **changes):
    """The plan that evaluates the best checkpoint of each run of `sweep`."""
    runs = []
    for run in sweep.runs:
        checkpoint = Checkpoint(
            which="best", file=f"../../{run.path}/best.pt", config_hash=run.config_hash, sha256="aa"
        )
        tested = replace(run, checkpoint=replace(checkpoint, **changes))
        free_keys = sweep.free_keys_of(run.config)
        runs.append(replace(tested, config_hash=hash_of_run(tested, free_keys)))
    return replace(sweep, runs=tuple(runs))


@pytest.fixture
def trained():
    return make_grid(cells=("one", "two"), folds=(0, 1))


def test_an_evaluation_has_a_hash_of_its_own_and_its_plan_is_read_as_written(trained):
    tested = evaluation(trained)
    hashes = {run.config_hash for run in (*trained.runs, *tested.runs)}
    assert len(hashes) == 2 * len(trained.runs)
    assert not any(hash_problem(run, tested) for run in tested.runs)
    assert sweep_from_json(tested.to_json()) == tested
    assert plan_from_json(plan_to_json(tested), tested.published).runs == tested.runs
    assert tested.runs[0].to_spec(tested)["checkpoint"]["sha256"] == "aa"
    assert "checkpoint" not in trained.runs[0].to_spec(trained)


def test_best_last_and_two_files_are_four_configurations(trained):
    kinds = [
        {"which": "best"},
        {"which": "last"},
        {"which": "file", "sha256": "aa"},
        {"which": "file", "sha256": "bb"},
    ]
    assert len({evaluation(trained, **kind).runs[0].config_hash for kind in kinds}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "bb"}, r"SHA-256 of ../../.*best.pt: aa -> bb"),
        ({"which": "last"}, "checkpoint's which: best -> last"),
        ({"config_hash": "f00"}, "checkpoint's config_hash"),
    ],
)
def test_another_checkpoint_is_a_change_that_names_its_runs(trained, changes, message):
    lines = "\n".join(plan_changes(evaluation(trained), evaluation(trained, **changes)))
    assert re.search(message, lines)
    assert plan_changes(trained, evaluation(trained))


def test_a_hash_that_is_known_later_is_no_change_and_stays_known(trained):
    early, late = evaluation(trained, sha256=None), evaluation(trained)
    assert not plan_changes(early, late)
    assert not plan_changes(late, early)
    assert grown_plan(early, late).runs == late.runs
    assert grown_plan(late, early) == late
    assert common_plan(early, late) == common_plan(late, early)
    assert common_plan(early, late).runs == late.runs
    assert [run.is_ready for run in early.runs] == [False] * len(early.runs)
