"""Whole few-shot trainings with real ranks: exact resume, world sizes, results, failures."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time

import pytest
import torch
from PIL import Image
from support.ranks import TrialRun, wait_until

from experiments.fewshot.feature_cache import FeatureCache
from experiments.fewshot.options import Options
from experiments.fewshot.task import open_task
from experiments.runtime.checkpoint import load_checkpoint
from experiments.runtime.distributed import Ranks
from experiments.runtime.evaluate import evaluate
from experiments.runtime.learner import load_trained_state
from experiments.runtime.opening import build_seeded_model
from experiments.runtime.options import build
from experiments.runtime.precision import Precision
from experiments.runtime.progress import Evaluation
from experiments.runtime.run_context import read_context
from experiments.runtime.stop import StopRequest
from merge.storage.json_files import read_json
from merge.storage.paths import AttemptPaths

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CONFIG = {
    "dataset": "shapes5i",
    "fold": 1,
    "image_size": 65,
    "epochs": 3,
    "episodes_per_epoch": 38,
    "global_batch": 6,
    "lr": 0.05,
    "test_episodes": 31,
    "eval_every": 2,
    "checkpoint_every_steps": 2,
    "num_panels": 2,
}
"""Six steps an epoch with two episodes left over; neither 2 nor 3 divides 31 test episodes."""

FROM_SCRATCH = {
    "backbone": "resnet18",
    "from_scratch": True,
    "output_stride": 16,
    "image_size": 33,
    "epochs": 1,
    "episodes_per_epoch": 12,
    "test_episodes": 10,
    "lr": 0.002,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def new_run(folder):
    def make(name: str, **changes: object) -> TrialRun:
        return TrialRun(folder / name, folder / "cache").write_spec({**CONFIG, **changes})

    return make


@pytest.fixture(scope="module")
def undisturbed(new_run):
    """A run on two ranks that nothing happened to."""
    run = new_run("undisturbed")
    run.finish(1, world_size=2)
    return run


@pytest.fixture(scope="module")
def alone(new_run):
    """The same run in one process."""
    run = new_run("alone")
    run.finish(1, world_size=1)
    return run


@pytest.fixture(scope="module")
def stopped(new_run):
    """The same run, asked to stop in its first epoch."""
    run = new_run("stopped")
    ranks = run.start(1, 2)
    wait_until(lambda: run.has_event(1, "step"), ranks)
    ranks.signal_ranks(signal.SIGTERM)
    assert ranks.wait(20) == 0, ranks.output()
    return run


def copy_of(run: TrialRun, name: str) -> TrialRun:
    copy = TrialRun(run.folder.with_name(name), run.cache)
    shutil.copytree(run.folder, copy.folder)
    return copy


def losses(result):
    return [entry["loss"] for entry in result["details"]["history"]]


def assert_same_numbers(run, attempt, other, other_attempt):
    ours, theirs = run.result(attempt), other.result(other_attempt)
    assert ours["metrics"] == theirs["metrics"]
    for name in ("untrained", "best", "final", "history"):
        assert ours["details"][name] == theirs["details"][name]
    model, other_model = run.last_checkpoint()["model"], other.last_checkpoint()["model"]
    assert model.keys() == other_model.keys()
    assert [name for name in model if not torch.equal(model[name], other_model[name])] == []


def test_a_run_leaves_what_the_contract_asks_for(undisturbed):
    details = undisturbed.result(1)["details"]
    assert undisturbed.result(1)["metrics"] == {
        "miou": details["best"]["miou"],
        "fb_iou": details["best"]["fb_iou"],
    }
    assert details["best"]["miou"] > details["untrained"]["miou"]
    assert details["final"]["epoch"] == 3
    assert [entry["epoch"] for entry in details["history"]] == [1, 2, 3]
    assert ["miou" in entry for entry in details["history"]] == [False, True, True]
    assert sum(details["best"]["counts"]["episodes"]) == 31
    assert details["best"]["bootstrap"]["episodes"] == [31]
    low, high = details["best"]["bootstrap"]["interval"]["miou"]
    assert low < details["best"]["miou"] < high
    assert details["torch"] == str(torch.__version__)
    assert (details["world_size"], details["global_batch"], details["amp"]) == (2, 6, "off")
    assert details["config"] == {**details["config"], **CONFIG}
    events = undisturbed.events(1)
    assert [event["event"] for event in events][:: len(events) - 1] == ["start", "end"]
    assert {"step", "epoch", "eval", "checkpoint"} <= {event["event"] for event in events}
    environment = json.loads((undisturbed.attempt(1) / "env.json").read_text())
    assert environment["packages"]["torch"]
    assert list((undisturbed.folder / "tensorboard").iterdir())
    with Image.open(undisturbed.folder / "panels" / "test.png") as panels:
        assert panels.width > 0
    leftovers = [p.name for p in undisturbed.folder.rglob("*.tmp")]
    assert leftovers == []


def test_a_run_killed_at_any_moment_ends_in_the_same_numbers(new_run, undisturbed):
    seed = random.randrange(10**6)
    print("seed", seed)
    moments = random.Random(seed)
    run = new_run("killed")
    for attempt in (1, 2, 3):
        num_events = moments.randint(2, 6)
        ranks = run.start(attempt, 2)
        wait_until(lambda: len(run.events(attempt)) >= num_events, ranks)  # noqa: B023
        time.sleep(moments.uniform(0, 0.03))
        ranks.kill()
        assert not (run.attempt(attempt) / "result.json").exists()
    run.finish(4, world_size=2)
    assert_same_numbers(run, 4, undisturbed, 1)


def test_a_stopped_run_leaves_cleanly_and_goes_on_exactly_there(stopped, undisturbed):
    told = stopped.events(1)[-1]
    assert told["event"] == "stopped"
    assert not (stopped.attempt(1) / "result.json").exists()
    run = copy_of(stopped, "continued")
    run.finish(2, world_size=2)
    start = run.events(2)[0]
    assert (start["epoch"], start["step"]) == (told["epoch"], told["step"])
    assert_same_numbers(run, 2, undisturbed, 1)
    steps = [event for event in run.events(2) if event["event"] == "step"]
    done = [6 * event["epoch"] + event["step"] - 1 for event in steps]
    rates = [0.05 * (1 - number / 18) ** 0.9 for number in done]
    assert [event["lr"] for event in steps] == pytest.approx(rates)


def test_a_run_goes_on_with_another_world_size_at_the_same_step(stopped, undisturbed):
    run = copy_of(stopped, "resized")
    result = run.finish(2, world_size=1)
    assert run.events(2)[0]["step"] == stopped.events(1)[-1]["step"]
    assert losses(result) == pytest.approx(losses(undisturbed.result(1)), rel=1e-4)


@pytest.mark.parametrize("world_size", [1, 3])
def test_the_world_size_changes_no_count_and_no_gradient(request, new_run, undisturbed, world_size):
    if world_size == 1:
        run = request.getfixturevalue("alone")
    else:
        run = new_run("three")
        run.finish(1, world_size)
    result, expected = run.result(1), undisturbed.result(1)
    untrained = result["details"]["untrained"]
    assert untrained["counts"] == expected["details"]["untrained"]["counts"]
    assert losses(result) == pytest.approx(losses(expected), rel=1e-4)
    model, other = run.last_checkpoint()["model"], undisturbed.last_checkpoint()["model"]
    for name in model:
        torch.testing.assert_close(model[name], other[name], rtol=1e-3, atol=1e-4)


def measured_again(run, cache):
    """The best checkpoint in one process: its task, its evaluation, the counts of its episodes."""
    context = read_context(run.environment(1))
    alone = Ranks(0, 0, 1, torch.device("cpu"))
    task = open_task(build(Options, context.config), context)
    task.features = cache
    model = build_seeded_model(task, alone)
    state = load_checkpoint(context.run.best_checkpoint, alone, config_hash="c0ffee")
    load_trained_state(task, model, state["model"])
    (name,) = task.lists()
    rows = evaluate(
        task,
        name,
        model,
        ranks=alone,
        precision=Precision("off", alone.device),
        num_workers=0,
        stop=StopRequest(),
    )
    episodes = task.tally(name).counts(rows)
    return task, Evaluation.from_state(state["evaluation"]), episodes


@pytest.mark.parametrize("cache_mb", [0, 512])
def test_a_reloaded_best_checkpoint_reproduces_its_metric_with_any_cache(undisturbed, cache_mb):
    cache = FeatureCache(cache_mb)
    task, saved, episodes = measured_again(undisturbed, cache)
    counts = episodes.total()
    written = read_json(AttemptPaths(undisturbed.attempt(1)).per_item_counts)
    assert list(written.values()) == [episodes.to_json()]
    names = {name for e in task.data.test_lists[0] for name in (e.query, *e.supports)}
    assert (cache.num_encoded > len(names)) is (cache_mb == 0)
    recorded = undisturbed.result(1)["details"]["best"]
    assert counts.to_json() == recorded["counts"]
    assert counts.miou() == recorded["miou"]
    assert saved.metrics["miou"] == recorded["miou"]


def test_all_ranks_measure_a_trained_backbone_with_the_batch_statistics_that_are_saved(new_run):
    run = new_run("scratch", **FROM_SCRATCH)
    run.finish(1, world_size=2)
    _, _, episodes = measured_again(run, FeatureCache(0))
    written = read_json(AttemptPaths(run.attempt(1)).per_item_counts)
    assert list(written.values()) == [episodes.to_json()]


def test_loader_workers_change_no_number(new_run, alone):
    helped = new_run("helped")
    ranks = helped.start(1, 1, PAPERGRID_NUM_WORKERS="2")
    assert ranks.wait() == 0, ranks.output()
    assert_same_numbers(helped, 1, alone, 1)


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(new_run):
    run = new_run("nan", lr=1e30)
    ranks = run.start(1, 1)
    assert ranks.wait() == 1
    error = run.error(1)
    assert error["kind"] == "nan"
    assert "at step" in error["message"]
    assert run.events(1)[-1]["event"] == "error"
    # Nothing of what was trained is worth a checkpoint.
    assert not (run.folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"dataset": "pascal5i"}, "data", "--data-root"),
        ({"epoch": 3}, "config", "did you mean 'epochs'"),
    ],
)
def test_a_run_that_cannot_be_ends_with_one_line_and_its_exit_code(new_run, changes, kind, message):
    run = new_run(f"refused-{'-'.join(changes)}", **changes)
    ranks = run.start(1, 1)
    assert ranks.wait() == 2
    error = run.error(1)
    assert (error["kind"], error["exit_code"]) == (kind, 2)
    assert message in error["message"]
    assert ranks.output().splitlines() == [f"error: {error['message']}"]


def test_a_batch_that_the_ranks_cannot_share_is_refused_with_both_numbers(new_run):
    run = new_run("indivisible", global_batch=5)
    ranks = run.start(1, 2)
    assert ranks.wait() != 0
    assert run.error(1)["kind"] == "config"
    assert "global_batch=5 cannot be divided over world_size=2" in run.error(1)["message"]


def test_micro_batches_take_the_same_steps_on_two_ranks(new_run, undisturbed):
    """A rank's three episodes come as two and one; the ranks exchange gradients once a step."""
    run = new_run("micro")
    ranks = run.start(1, 2, PAPERGRID_MICRO_BATCH="2")
    assert ranks.wait() == 0, ranks.output()
    result, whole = run.result(1), undisturbed.result(1)
    assert [r["details"]["micro_batch"] for r in (result, whole)] == [2, 3]
    assert losses(result) == pytest.approx(losses(whole), rel=1e-3)
