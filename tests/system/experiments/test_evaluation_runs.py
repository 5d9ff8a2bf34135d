"""Runs that evaluate without training: checkpoints, models as they start, ranks, kills, refusals.

The experiment in tested_again/ predicts test items in chunks, and each prediction depends on the
others of its chunk, so a chunk that changed with the ranks or after a kill would change a number.
"""

from __future__ import annotations

import json
import signal
from hashlib import sha256

import pytest
from support.ranks import TrialRun, wait_until
from support.tested_again import write_experiment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CHUNKS = {"eval_chunk": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(root):
    write_experiment(root)
    run = TrialRun(root / "trained", root / "cache").write_spec(CHUNKS)
    finish(run)
    return run


def evaluation_of(trained, root, name, config=CHUNKS, *, which="best"):
    """A run that evaluates a checkpoint of `trained`, in a folder beside it."""
    path = trained.folder / "checkpoints" / f"{which}.pt"
    run = TrialRun(root / "evaluations" / name, root / "cache").write_spec(config)
    spec = json.loads((run.folder / "run.json").read_text())
    spec |= {
        "path": name,
        "config_hash": "decade",
        "checkpoint": {
            "which": which,
            "file": f"../{path.relative_to(root)}",
            "config_hash": "c0ffee",
            "sha256": sha256(path.read_bytes()).hexdigest(),
        },
    }
    (run.folder / "run.json").write_text(json.dumps(spec))
    return run


def start(run, attempt, world_size):
    folder = next(parent for parent in run.folder.parents if (parent / "tested_again").exists())
    words = ("-m", "experiments.runtime", f"{folder}/tested_again")
    return run.start(attempt, world_size, *words)


def finish(run, attempt=1, world_size=1):
    ranks = start(run, attempt, world_size)
    assert ranks.wait() == 0, ranks.output()
    return run.result(attempt)


@pytest.mark.parametrize(("which", "world_size"), [("best", 1), ("best", 2), ("last", 1)])
def test_a_checkpoint_scores_again_what_its_training_measured(trained, root, which, world_size):
    run = evaluation_of(trained, root, f"again-{which}{world_size}", which=which)
    details = finish(run, world_size=world_size)["details"]
    measured = trained.result(1)["details"]["best" if which == "best" else "final"]
    assert details["tested"] == measured
    assert details["checkpoint"]["which"] == which
    assert details["checkpoint"]["epoch"] == measured["epoch"]
    assert not (run.folder / "checkpoints" / "best.pt").exists()


def test_a_killed_evaluation_goes_on_inside_its_list_with_another_number_of_ranks(trained, root):
    settings = {**CHUNKS, "num_tests": 60, "test_seeds": [5, 6]}
    whole = finish(evaluation_of(trained, root, "whole", settings))
    run = evaluation_of(
        trained, root, "killed", {**settings, "pause_s": 0.05, "checkpoint_every_s": 0.2}
    )
    ranks = start(run, 1, 2)
    wait_until(lambda: has_begun(run, "6"), ranks, 90)
    ranks.kill()
    done = run.last_checkpoint()["begun"]["6"]["num_chunks"]
    assert 0 < done < 20
    assert finish(run, 2)["details"]["tested"] == whole["details"]["tested"]
    # One rank, two seconds for each list of 20 chunks: what was counted is not predicted again.
    begun = next(event for event in run.events(2) if event["event"] == "step")
    assert begun["step"] >= done


def has_begun(run, name):
    """Whether a part of the list `name` is saved."""
    saved = [e for e in run.events(1) if e["event"] == "checkpoint"]
    return len(saved) > 1 and name in run.last_checkpoint()["begun"]


def test_a_stop_request_saves_what_was_counted(trained, root):
    run = evaluation_of(trained, root, "stopped", {**CHUNKS, "pause_s": 0.05})
    ranks = start(run, 1, 1)
    wait_until(lambda: run.has_event(1, "step"), ranks, 90)
    ranks.signal_ranks(signal.SIGTERM)
    assert ranks.wait() == 0, ranks.output()
    assert run.events(1)[-1]["event"] == "stopped"
    assert not (run.attempt(1) / "result.json").exists()
    assert finish(run, 2)["metrics"] == trained.result(1)["metrics"]


def test_a_run_of_no_epochs_evaluates_the_model_as_it_starts(trained, root):
    """With more ranks than its global batch would divide by."""
    run = TrialRun(root / "start", root / "cache").write_spec(
        {**CHUNKS, "epochs": 0, "global_batch": 1}
    )
    details = finish(run, world_size=2)["details"]
    before = trained.result(1)["details"]["untrained"]
    assert details["tested"]["error"] == before["error"]
    assert details["checkpoint"] == {"which": "start"}
