"""What a training writes for people: log lines once each, also after a resume; model and probe."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import torch
from support.tiny_training import TinyOptions, TinyRun
from torch import nn

from experiments.runtime.model_info import MacCounter, describe_model
from experiments.runtime.options import OptimiserOptions, RuntimeOptions
from experiments.runtime.result import build_result
from experiments.runtime.stop import Stopped

OPTIONS = TinyOptions(
    runtime=RuntimeOptions(epochs=3, tensorboard=False),
    optimiser=OptimiserOptions(lr=2.35e-6, schedule="constant"),
)
LOG = """\
Epoch 1/3 | Learning Rate: 2.350000e-06
EPOCH 1 TRAIN - Loss: {losses[0]:.4f}, Items: 3.0000
EPOCH 1 TEST - Score: 1.0000
Epoch 2/3 | Learning Rate: 2.350000e-06
EPOCH 2 TRAIN - Loss: {losses[1]:.4f}, Items: 3.0000
EPOCH 2 TEST - Score: 3.0000
Epoch 3/3 | Learning Rate: 2.350000e-06
EPOCH 3 TRAIN - Loss: {losses[2]:.4f}, Items: 3.0000
EPOCH 3 TEST - Score: 2.0000
Final epoch 3; best epoch 2
"""


def begun(run: TinyRun, *, stop_at: int | None = None, **given: Any):
    """An attempt that counts the items that it trains on, and is stopped after a step."""
    trainer = run.attempt(scores={1: 1.0, 2: 3.0, 3: 2.0}, **given)
    task, step = trainer._setup.task, trainer._step
    task.train_counts = lambda _output, batch: {"seen": torch.tensor(len(batch))}  # type: ignore[method-assign]
    task.train_metrics = lambda counts: {"items": float(counts["seen"])}  # type: ignore[method-assign]

    def and_stop(*words):
        step(*words)
        if trainer.global_step == stop_at:
            raise Stopped

    trainer._step = and_stop  # type: ignore[method-assign]
    return trainer


@pytest.mark.parametrize("stop_at", [None, 1, 4, 8])
def test_the_log_has_each_line_once_wherever_the_run_was_stopped(tmp_path, stop_at):
    run = TinyRun(tmp_path, OPTIONS)
    if stop_at:
        with pytest.raises(Stopped):
            begun(run, stop_at=stop_at).fit()
    progress = begun(run).fit()
    losses = [entry["loss"] for entry in progress.history]
    text = run.paths.training_log.read_text()
    assert text == LOG.format(losses=losses)
    assert Counter(text.splitlines()).most_common(1)[0][1] == 1
    written = json.loads(run.paths.metrics.read_text())
    assert [epoch["learning_rate"] for epoch in written["epochs"]] == [2.35e-6] * 3
    assert written["best"] == {"epoch": 2, "score": 3.0}


def test_files_that_a_killed_attempt_left_behind_are_made_again(tmp_path):
    run = TinyRun(tmp_path, OPTIONS)
    begun(run).fit()
    text = run.paths.training_log.read_text()
    run.paths.training_log.write_text("half a li")
    run.paths.model_info.unlink()
    begun(run).fit()
    assert run.paths.training_log.read_text() == text
    assert "parameters     2" in run.paths.model_info.read_text()


def test_a_result_has_a_probe_the_model_and_what_chose_the_best(tmp_path):
    trainer = begun(TinyRun(tmp_path, OPTIONS))
    progress = trainer.fit()
    details = build_result(progress, trainer._setup, trainer.report)["details"]
    assert isinstance(details, dict)
    assert details["model"] == {"parameters": 2, "trainable": 2, "macs_per_item": 1}
    assert details["train_items_per_s"] == pytest.approx(9 / progress.seconds["train"], rel=0.01)
    assert len(details["peak_memory_mb_by_rank"]["host"]) == 1  # type: ignore[index, call-overload, arg-type]
    assert details["evenness"] == {"host": 1.0}
    assert details["best_chosen_on"] == "what is tested"
    assert "world_sizes" not in details
    progress.world_sizes.append(2)
    moved = build_result(progress, trainer._setup, trainer.report)["details"]
    assert moved["world_sizes"] == [1, 2]  # type: ignore[index, call-overload]


def test_macs_are_those_of_convolutions_and_linear_layers_in_one_pass():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, groups=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.Flatten()
    )
    model.append(nn.Linear(8 * 4 * 4, 5))
    counter = MacCounter(model)
    for _ in range(2):
        model(torch.zeros(2, 3, 8, 8))
    one = 8 * 36 * 27 + 8 * 16 * 2 * 9 + 5 * 128
    assert counter.macs == 2 * one
    info = describe_model(model, ["0.weight"])
    assert (info.parameters, info.trainable) == (216 + 8 + 144 + 8 + 640 + 5, 216)
    assert "Conv2d" in info.text()
    assert not any(module._forward_hooks for module in model.modules())


def test_macs_are_those_of_training_where_an_attempt_begins_with_an_evaluation(tmp_path):
    """An attempt that was stopped as it evaluated has no step left in that epoch."""
    run = TinyRun(tmp_path, OPTIONS)
    with pytest.raises(Stopped):
        begun(run, stop_at=3).fit()
    trainer = begun(run)
    trainer._setup.task.predict = lambda model, *_: model(torch.zeros(5, 1))  # type: ignore[method-assign]
    trainer.fit()
    assert trainer.report.model.macs_per_item == 1


def test_tensorboard_has_the_learning_rate_and_the_metrics_of_training(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = TinyOptions(runtime=RuntimeOptions(epochs=1), optimiser=OptimiserOptions(lr=0.25))
    run = TinyRun(tmp_path, options)
    begun(run, validation_scores={1: 2.0}).fit()
    curves = EventAccumulator(str(run.paths.tensorboard))
    curves.Reload()
    assert curves.Scalars("train/learning_rate")[0].value == 0.25
    assert {"train/loss", "train/items", "test/score", "validation/score"} <= set(
        curves.Tags()["scalars"]
    )


def test_the_console_names_epochs_and_rates_as_the_log_does(tmp_path, caplog):
    caplog.set_level("INFO", "experiments.runtime.reporting")
    begun(TinyRun(tmp_path, OPTIONS)).fit()
    assert [line for line in caplog.messages if line.startswith("Epoch")] == [
        f"Epoch {epoch}/3 | Learning Rate: 2.350000e-06" for epoch in (1, 2, 3)
    ]
