"""The result of a finished run: its metrics, and everything needed to judge them."""

from __future__ import annotations

import torch

from experiments.runtime.batch_statistics import trains_batch_norm
from experiments.runtime.distributed import gather_objects
from experiments.runtime.opening import OpenRun
from experiments.runtime.options import flat
from experiments.runtime.probe import peak_memory_mb, probe
from experiments.runtime.progress import Evaluation, Progress
from experiments.runtime.reporting import Reporting
from experiments.runtime.setup import Setup
from experiments.runtime.task import Task
from merge.storage.json_files import Json


def build_result(progress: Progress, setup: Setup, report: Reporting) -> dict[str, Json]:
    """The content of result.json. All ranks call it: their peak memory is gathered."""
    task, options = setup.task, setup.task.options.runtime
    has_moved = len(progress.world_sizes) > 1
    has_batch_norm = trains_batch_norm(setup.learner.model, setup.stages.stages)
    return {
        "metrics": dict(progress.reported(options.report).metrics),
        "details": {
            "reported": options.report,
            **{name: task.describe(each) for name, each in progress.evaluations().items()},
            "history": list(progress.history),
            **task.details(setup.learner.model),
            "world_size": setup.ranks.world_size,
            "global_batch": options.global_batch,
            "micro_batch": setup.micro_batch,
            # Runs that differ in it are no repeats of each other (merge/results/comparability.py).
            **({"batch_norm_items": _batch_norm_items(setup)} if has_batch_norm else {}),
            # Where ranks draw their own random numbers, a resume on another number of them shows.
            **({"world_sizes": list(progress.world_sizes)} if has_moved else {}),
            "device": setup.ranks.device.type,
            "amp": setup.precision.amp,
            "torch": str(torch.__version__),
            "seconds": dict(progress.seconds),
            **probe(progress, setup, report.num_steps),
            "model": report.model.to_json(),
            "best_chosen_on": _chosen_on(task),
            "config": flat(task.options),  # type: ignore[arg-type]
        },
    }


def _batch_norm_items(setup: Setup) -> int:
    """Items that a batch norm normalises together."""
    is_shared = setup.task.options.runtime.sync_batch_norm
    return setup.micro_batch * (setup.ranks.world_size if is_shared else 1)


def _chosen_on(task: Task) -> str:
    """On which lists the best epoch was chosen."""
    return task.validation_list or "what is tested"


def evaluation_result(
    evaluation: Evaluation, run: OpenRun, tested: dict[str, Json], seconds: float
) -> dict[str, Json]:
    """The content of result.json of a run without training. All ranks call it."""
    peaks = gather_objects(peak_memory_mb(run.ranks.device), run.ranks)
    return {
        "metrics": dict(evaluation.metrics),
        "details": {
            "reported": "tested",
            "tested": run.task.describe(evaluation),
            "checkpoint": tested,
            **run.task.details(run.model),
            "world_size": run.ranks.world_size,
            "global_batch": run.task.options.runtime.global_batch,
            "device": run.ranks.device.type,
            "amp": run.precision.amp,
            "torch": str(torch.__version__),
            "seconds": {"eval": seconds},
            "peak_memory_mb": {kind: max(peak[kind] for peak in peaks) for kind in peaks[0]},
            "config": flat(run.task.options),  # type: ignore[arg-type]
        },
    }
