"""Parts of the few-shot experiment for tests, from options by their flat names."""

from __future__ import annotations

from typing import Any, cast

import torch

from experiments.backbones.cells import CellAxis, CellGrid
from experiments.fewshot.model import build_method
from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.options import Options
from experiments.fewshot.task import FewShotTask
from experiments.runtime.distributed import Ranks
from experiments.runtime.learner import Learner
from experiments.runtime.options import build
from experiments.runtime.precision import Precision


def fewshot_options(**values: Any) -> Options:
    """The options of a run.json with these values."""
    return build(Options, values, "fewshot")


def new_method(method: str, backbone: str, **values: Any) -> FewShotModel:
    """An untrained method on a backbone."""
    return build_method(fewshot_options(method=method, backbone=backbone, **values))


def even_grid(size_hw: tuple[int, int], step: int = 4) -> CellGrid:
    """Cells that divide an image of `step` times their number evenly."""
    return CellGrid(*(CellAxis((step - 1) / 2, step, side, step * side) for side in size_hw))


def task_without_data(options: Options) -> FewShotTask:
    """A task for what needs no data: losses, weights, a learner."""
    task = FewShotTask(options, cast(Any, None), cast(Any, None))
    task.mean_rgb = (127.0, 127.0, 127.0)
    return task


def new_learner(
    model: FewShotModel, options: Options, ranks: Ranks, micro_batch: int = 0
) -> Learner:
    """A learner in full precision."""
    precision = Precision("off", ranks.device)
    task = task_without_data(options)
    (stage,) = task.stages()
    return Learner(task, model, ranks, precision, stage, micro_batch=micro_batch)


ALONE = Ranks(0, 0, 1, torch.device("cpu"))
