"""Evaluates best.pt of a camouflage run again, on any number of ranks.

As a program it is one rank, in the environment of the run contract; rank 0 prints the metrics.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import torch

from experiments.camouflage.options import Options
from experiments.camouflage.task import open_task
from experiments.runtime.distributed import process_group
from experiments.runtime.evaluate import evaluate
from experiments.runtime.learner import load_trained_state
from experiments.runtime.options import build
from experiments.runtime.precision import Precision
from experiments.runtime.run_context import read_context
from experiments.runtime.stop import StopRequest


def measure(environment: Mapping[str, str]) -> dict[str, float]:
    """The metrics over the test images, on every rank."""
    context = read_context(environment)
    with process_group("cpu", timeout_s=60) as ranks:
        task = open_task(build(Options, context.config), context)
        model = task.build_model(ranks.device)
        best = torch.load(context.run.best_checkpoint, weights_only=True)
        load_trained_state(task, model, best["model"])
        precision = Precision("off", ranks.device)
        state = evaluate(
            task, "test", model, ranks=ranks, precision=precision, num_workers=0, stop=StopRequest()
        )
        return task.tally("test").metrics(state)


if __name__ == "__main__":
    metrics = measure(os.environ)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(metrics))
