"""Which arrays a selection becomes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from support.sweeps import make_sweep, shell

from merge.records.sweep import Resources
from orchestrator.slurm.arrays import plan_arrays
from orchestrator.slurm.request import SlurmRequest, combine_layers


def runs(count: int, *resources: Resources):
    """`count` runs; the resources are dealt out in turn."""
    each = resources or (Resources(),)
    sweep = make_sweep(shell("true"), folds=count)
    return [replace(r, resources=each[i % len(each)]) for i, r in enumerate(sweep.runs)]


def plan(groups, size=1001, *layers):
    return plan_arrays(groups, lambda r: combine_layers([r.slurm, *layers]), size)


def test_runs_with_equal_resources_are_one_array_with_a_task_each():
    (array,) = plan([[run] for run in runs(3)])
    assert array.name == "array-1"
    assert array.tasks == (("run-fold0",), ("run-fold1",), ("run-fold2",))


def test_each_class_of_resources_is_an_array_of_its_own():
    small, large = Resources(), Resources(devices_per_run=4, slurm={"mem": "64G"})
    first, second = plan([[run] for run in runs(4, small, large)])
    assert (len(first.tasks), first.request.mem) == (2, None)
    assert (len(second.tasks), second.request.mem) == (2, "64G")
    assert second.resources.devices_per_run == 4


def test_a_shard_is_one_task_and_falls_apart_only_where_its_runs_need_different_things():
    mixed = runs(4, Resources(), Resources(num_workers=2))
    first, second = plan([mixed])
    assert first.tasks == (("run-fold0", "run-fold2"),)
    assert second.tasks == (("run-fold1", "run-fold3"),)


def test_more_tasks_than_the_cluster_allows_are_cut_into_arrays():
    arrays = plan([[run] for run in runs(45)], 20)
    assert [len(array.tasks) for array in arrays] == [20, 20, 5]
    assert [array.name for array in arrays] == ["array-1", "array-2", "array-3"]


def test_gpus_and_cores_follow_from_the_run_unless_they_are_given():
    wants = Resources(device="cuda", devices_per_run=4, num_workers=3, nodes=2)
    assert plan([runs(1, wants)])[0].request == SlurmRequest(gres="gpu:2", cpus_per_task=8)
    given_cores = plan([runs(1, wants)], 9, {"cpus_per_task": 5, "gres": "gpu:a100:2"})[0].request
    assert given_cores == SlurmRequest(gres="gpu:a100:2", cpus_per_task=5)
    other_way = plan([runs(1, wants)], 9, {"sbatch": {"gpus-per-node": 2}})[0].request
    assert other_way.gres is None
    assert plan([runs(1, Resources(device="auto"))])[0].request.gres is None


@given(
    st.lists(st.integers(1, 5), max_size=12),
    st.integers(1, 4),
    st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=3),
)
def test_every_run_is_in_exactly_one_task_and_no_array_is_too_large(sizes, limit, devices):
    left = iter(runs(sum(sizes), *(Resources(devices_per_run=n) for n in devices)))
    groups = [[next(left) for _ in range(size)] for size in sizes]
    arrays = plan(groups, limit)
    told = [run_id for array in arrays for task in array.tasks for run_id in task]
    assert sorted(told) == sorted(run.run_id for group in groups for run in group)
    assert all(1 <= len(array.tasks) <= limit for array in arrays)
