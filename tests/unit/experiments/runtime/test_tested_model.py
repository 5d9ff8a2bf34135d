"""Which checkpoint an evaluation takes: its own, one of the same values; every other is refused."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from support.tiny_training import ALONE, TinyOptions, TinyRun

from experiments.runtime.checkpoint import save_checkpoint
from experiments.runtime.declared import DeclaredMetrics
from experiments.runtime.entry import NonFiniteError
from experiments.runtime.opening import OpenRun
from experiments.runtime.options import RuntimeOptions
from experiments.runtime.precision import Precision
from experiments.runtime.stages import Timetable
from experiments.runtime.tested_model import load_tested_model
from merge.errors import DataError, UsageError
from merge.records.checkpoints import Checkpoint, checkpoint_from_json


@pytest.fixture
def trained(tmp_path):
    """A training of one number for two epochs; its trainer."""
    options = dataclasses.replace(
        TinyOptions(), runtime=RuntimeOptions(epochs=2, tensorboard=False)
    )
    trainer = TinyRun(tmp_path / "out" / "run", options).attempt(scores={1: 0.5, 2: 0.25})
    trainer.fit()
    return trainer


def opened(trained, path, **changes):
    """An evaluation of the file `path`, with a model that has not trained."""
    setup = trained._setup
    checkpoint = Checkpoint(
        which="file",
        file=str(path),
        config_hash="c0ffee",
        sha256=sha256(path.read_bytes()).hexdigest() if path.exists() else "0" * 64,
    )
    context = dataclasses.replace(
        setup.context, checkpoint=dataclasses.replace(checkpoint, **changes), path="run"
    )
    task = setup.task
    return OpenRun(
        context=context,
        ranks=ALONE,
        task=task,
        model=torch.nn.Linear(1, 1),
        declared=DeclaredMetrics(manifest=Path("m"), goals={"score": "max"}, shown="score"),
        precision=Precision("off", ALONE.device),
        stages=Timetable(task.stages(), epochs=2),
    )


def file_of(trained, which):
    return getattr(trained._setup.context.run, f"{which}_checkpoint")


@pytest.mark.parametrize(("which", "epoch"), [("best", 1), ("last", 2)])
def test_a_training_s_own_checkpoints_are_loaded(trained, which, epoch):
    run = opened(trained, file_of(trained, which))
    tested = load_tested_model(run)
    assert (tested.epoch, tested.record["epoch"]) == (epoch, epoch)
    saved = torch.load(file_of(trained, which), weights_only=True)["model"]
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(value, saved[name], rtol=0, atol=0)


def test_without_a_checkpoint_the_model_stays_as_it_was_built(trained):
    run = opened(trained, file_of(trained, "best"))
    run = dataclasses.replace(run, context=dataclasses.replace(run.context, checkpoint=None))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert load_tested_model(run).record == {"which": "start"}
    assert all(torch.equal(before[name], v) for name, v in run.model.state_dict().items())


def test_the_file_is_found_from_the_output_folder(trained):
    path = file_of(trained, "best")
    run = opened(trained, path, file="run/checkpoints/best.pt")
    assert run.context.checkpoint_path == path


def written(trained, tmp_path, **changes):
    """A copy of the best checkpoint with other content."""
    state = torch.load(file_of(trained, "best"), weights_only=True)
    state = {key: value for key, value in {**state, **changes}.items() if value is not None}
    path = tmp_path / "foreign.pt"
    del state["config_hash"]
    save_checkpoint(path, state, config_hash="f00")
    return path


def test_a_file_of_the_same_values_from_elsewhere_is_taken(trained, tmp_path):
    assert load_tested_model(opened(trained, written(trained, tmp_path))).epoch == 1


def other_values(trained):
    config = torch.load(file_of(trained, "best"), weights_only=True)["config"]
    return {**config, "lr": 0.7, "epochs": 9, "eval_chunk": 5, "loader_timeout_s": 1.0}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"config": other_values}, UsageError, "other values than this run: epochs 9 instead of 2"),
        ({"config": lambda _: None}, UsageError, "does not say which"),
        ({"model": lambda _: None}, UsageError, "holds no trained model"),
        ({"model": lambda _: {"odd": torch.ones(1)}}, UsageError, "does not fit the model"),
    ],
)
def test_a_checkpoint_that_does_not_belong_is_refused(trained, tmp_path, changes, error, message):
    path = written(trained, tmp_path, **{key: make(trained) for key, make in changes.items()})
    with pytest.raises(error, match=message) as caught:
        load_tested_model(opened(trained, path))
    # Test settings, and what decides no number, may differ.
    assert "eval_chunk" not in str(caught.value)
    assert "loader_timeout_s" not in str(caught.value)


def test_a_model_that_its_training_destroyed_is_refused(trained, tmp_path):
    """A class or a mask that is made from NaN does not show it."""
    destroyed = {"weight": torch.full((1, 1), float("nan")), "bias": torch.zeros(1)}
    path = written(trained, tmp_path, model=destroyed)
    with pytest.raises(NonFiniteError, match=r"foreign\.pt holds weights that are NaN"):
        load_tested_model(opened(trained, path))


def test_a_changed_file_a_missing_one_and_a_damaged_one_are_refused(trained, tmp_path):
    path = file_of(trained, "best")
    with pytest.raises(DataError, match="has changed since the evaluation was planned"):
        load_tested_model(opened(trained, path, sha256="0" * 64))
    with pytest.raises(UsageError, match="is not there: fetch the training's folder"):
        load_tested_model(opened(trained, tmp_path / "gone.pt"))
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(path.read_bytes()[:100])
    # It may be a file that a person named by mistake: no advice to delete it.
    with pytest.raises(
        UsageError, match=r"cannot be read as a checkpoint: name a best\.pt"
    ) as found:
        load_tested_model(opened(trained, damaged))
    assert "delete" not in str(found.value)


def test_other_weights_are_refused_and_other_data_are_not(trained):
    path, task = file_of(trained, "best"), trained._setup.task
    task.data = "another data set"
    load_tested_model(opened(trained, path))
    task.identity_of_model = ("data",)
    with pytest.raises(DataError, match=r"trained with other data \(data\) than are here now"):
        load_tested_model(opened(trained, path))


def test_a_spec_without_a_whole_checkpoint_is_none():
    whole = Checkpoint(which="best", file="../../a/best.pt", config_hash="c0ffee", sha256="0")
    assert checkpoint_from_json(whole.to_json()) == whole
    assert checkpoint_from_json(None) is None
    for name, value in (("which", "latest"), ("file", 3), ("sha256", 7)):
        with pytest.raises((ValueError, TypeError)):
            checkpoint_from_json({**whole.to_json(), name: value})
