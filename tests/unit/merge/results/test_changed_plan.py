"""A plan that was changed by hand: what no longer has the hash that it recorded is not counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.errors import RecordError
from merge.records.config_hash import config_hash, free_keys_of, hash_problem
from merge.records.manifest import default_manifest, manifest_from_json
from merge.records.plan_diff import plan_differences
from merge.results.collect import collect
from merge.results.view import merge_inputs, rebuild
from merge.storage.json_files import read_json, write_json


def change_plan(path, run_id, change):
    document = read_json(path)
    change(next(run for run in document["runs"] if run["run_id"] == run_id))
    write_json(path, document)


CHANGES = {
    "config": lambda run: run["config"].update(epochs=2),
    "number for text": lambda run: run["config"].update(epochs=1.0),
    "key": lambda run: run["config"].update(more=1),
    "experiment": lambda run: run.update(experiment="other"),
    "command": lambda run: run.update(command=["other"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_that_was_changed_in_its_plan_is_named_and_not_counted(tmp_path, change):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5)
    # The view and the index of the plan as it was.
    assert rebuild(tmp_path).is_clean
    changed = sweep.runs[2]
    change_plan(paths.sweep, changed.run_id, CHANGES[change])
    for merged in (rebuild(tmp_path), rebuild(tmp_path), merge_inputs([tmp_path], tmp_path / "m")):
        (problem,) = merged.problems
        assert (problem.run_id, problem.file) == (changed.run_id, "sweep.json")
        assert changed.run_id in problem.reason
        assert "restore it" in problem.reason
        view = merged.document["results"][changed.cell]
        assert (view["mean"], view["missing"]) == (None, ["2"])
    assert changed.run_id not in collect(tmp_path).results


def test_runs_whose_axes_were_exchanged_in_their_plan_are_not_counted(tmp_path):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5)
    change_plan(paths.sweep, sweep.runs[2].run_id, lambda run: run["axes"].update(fold=3))
    with pytest.raises(RecordError, match="a point of the grid"):
        rebuild(tmp_path)
    change_plan(paths.sweep, sweep.runs[3].run_id, lambda run: run["axes"].update(fold=2))
    merged = rebuild(tmp_path)
    assert [problem.run_id for problem in merged.problems] == [r.run_id for r in sweep.runs[2:]]
    change_plan(paths.sweep, sweep.runs[3].run_id, lambda run: run["axes"].update(fold=7))
    with pytest.raises(RecordError, match="a value that no axis has"):
        rebuild(tmp_path)


def test_a_restored_plan_counts_again(tmp_path):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5)
    before = rebuild(tmp_path).document
    plan = paths.sweep.read_bytes()
    change_plan(paths.sweep, sweep.runs[0].run_id, CHANGES["config"])
    assert rebuild(tmp_path).document != before
    paths.sweep.write_bytes(plan)
    assert rebuild(tmp_path).document == before


def test_the_plan_within_a_merged_view_is_checked_too(tmp_path):
    sweep = make_grid()
    paths = write_sweep(tmp_path / "out", sweep)
    write_result(tmp_path / "out", sweep.runs[0], 0.5)
    rebuild(tmp_path / "out")
    document = read_json(paths.results)
    document["plan"]["shared"]["config"]["epochs"] = 2
    write_json(tmp_path / "changed.json", document)
    with pytest.raises(RecordError, match=sweep.runs[0].run_id):
        merge_inputs([tmp_path / "changed.json"], tmp_path / "merged.json")


def test_the_hashes_of_a_plan_are_computed_once_for_each_state_of_it(tmp_path, monkeypatch):
    sweep = make_grid()
    write_sweep(tmp_path, sweep)
    write_result(tmp_path, sweep.runs[0], 0.5)
    rebuild(tmp_path)
    counted = []
    monkeypatch.setattr(
        "merge.results.collect.hash_problem", lambda run, _: counted.append(run.run_id) or ""
    )
    write_result(tmp_path, sweep.runs[1], 0.5)
    rebuild(tmp_path)
    assert counted == []
    write_json(tmp_path / "sweep.json", replace(sweep, title="new").to_json())
    rebuild(tmp_path)
    assert len(counted) == 4


SCRATCH = manifest_from_json({"metrics": {}, "batch_norm": {"from_scratch": True}})
ALWAYS = manifest_from_json({"metrics": {}, "batch_norm": True})
NEVER = default_manifest("miou", "max", "percent")
FREE = ("tensorboard", "micro_batch")


@pytest.mark.parametrize(
    ("manifest", "config", "is_free"),
    [
        (SCRATCH, {"micro_batch": 4, "from_scratch": True}, False),
        (SCRATCH, {"micro_batch": 4, "from_scratch": False}, True),
        (SCRATCH, {"micro_batch": 0, "from_scratch": True}, True),
        (ALWAYS, {"micro_batch": 4}, False),
        (NEVER, {"micro_batch": 4, "from_scratch": True}, True),
    ],
)
def test_a_micro_batch_is_part_of_the_configuration_where_batch_norm_is_trained(
    manifest, config, is_free
):
    free = free_keys_of(config, FREE, manifest)
    assert free == (FREE if is_free else ("tensorboard",))
    assert manifest_from_json(manifest.to_json()) == manifest
    hashed = {key: value for key, value in config.items() if key not in free}
    sweep = replace(make_grid(), free_keys=FREE, frozen_manifest=manifest)
    run = replace(
        sweep.runs[0],
        config=config,
        axes={},
        config_hash=config_hash(hashed, experiment="fewshot", command=None),
    )
    assert hash_problem(run, sweep) == ""
    smaller = replace(run, config={**config, "micro_batch": 2})
    assert bool(hash_problem(smaller, sweep)) is manifest.has_batch_norm(config)


@pytest.mark.parametrize(("before", "after"), [(4, 2), (0, 2), (2, 0)])
def test_another_micro_batch_under_batch_norm_is_another_plan(before, after):
    def planned(micro_batch, manifest):
        grid = make_grid(folds=(0,))
        config = {**grid.runs[0].config, "micro_batch": micro_batch}
        free = free_keys_of(config, FREE, manifest)
        hashed = {key: value for key, value in config.items() if key not in free}
        run = replace(
            grid.runs[0],
            config=config,
            config_hash=config_hash(hashed, experiment="fewshot", command=None),
        )
        return replace(grid, runs=(run,), free_keys=FREE, frozen_manifest=manifest)

    found = plan_differences(planned(before, ALWAYS), planned(after, ALWAYS))
    assert found == (f"micro_batch: {before} -> {after} (in 1 run)",)
    assert plan_differences(planned(before, NEVER), planned(after, NEVER)) == ()
