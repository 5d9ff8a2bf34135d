"""The result of a finished run: its metrics, and everything needed to judge them."""

from __future__ import annotations

import resource
from itertools import chain

import torch

from experiments.fewshot.config import FewShotConfig
from experiments.fewshot.episodes.bam import episode_list_hash
from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.progress import Evaluation, Progress
from experiments.fewshot.task import Task
from experiments.runtime.distributed import Ranks, gather_objects
from experiments.runtime.options import options_of
from experiments.runtime.precision import Precision
from merge.storage.json_files import Json


def build_result(
    progress: Progress,
    task: Task,
    model: FewShotModel,
    ranks: Ranks,
    precision: Precision,
    micro_batch: int,
) -> dict[str, Json]:
    """The content of result.json. All ranks call it: their peak memory is gathered.

    `micro_batch` is how many episodes a rank computed at a time.
    """
    peaks = gather_objects(_peak_memory_mb(ranks.device), ranks)
    reported = choose_reported(progress, task.config)
    return {
        "metrics": {"miou": reported.miou, "fb_iou": reported.fb_iou},
        "details": {
            "reported": task.config.report,
            **{name: evaluation.details() for name, evaluation in _evaluations(progress).items()},
            "history": list(progress.history),
            **_data_details(task),
            "weights": model.backbone.weights_id,
            "world_size": ranks.world_size,
            "global_batch": task.config.global_batch,
            "micro_batch": micro_batch,
            "device": ranks.device.type,
            "amp": precision.amp,
            "torch": str(torch.__version__),
            "seconds": dict(progress.seconds),
            "peak_memory_mb": {kind: max(peak[kind] for peak in peaks) for kind in peaks[0]},
            "config": options_of(task.config),
        },
    }


def choose_reported(progress: Progress, config: FewShotConfig) -> Evaluation:
    """The evaluation whose metrics are the run's result."""
    reported = progress.best if config.report == "best" else progress.final
    assert reported is not None  # the last epoch is always evaluated
    return reported


def episode_record(progress: Progress, task: Task) -> dict[str, Json]:
    """The content of episode_counts.json: the reported evaluation's counts by test seed."""
    episodes = choose_reported(progress, task.config).episodes
    seeds = task.config.chosen_test_seeds
    return {str(seed): each.to_json() for seed, each in zip(seeds, episodes, strict=False)}


def _evaluations(progress: Progress) -> dict[str, Evaluation]:
    named = {"untrained": progress.untrained, "best": progress.best, "final": progress.final}
    return {name: evaluation for name, evaluation in named.items() if evaluation is not None}


def _data_details(task: Task) -> dict[str, Json]:
    return {
        "protocol": task.config.protocol,
        "mask_variant": task.source.mask_variant,
        "shot": task.config.shot,
        "fold": task.config.fold,
        "eval_size": "original" if task.config.counts_at_original_size else "resized",
        "test_seeds": list(task.config.chosen_test_seeds),
        "test_episodes": task.config.test_episodes,
        "episode_list_hash": episode_list_hash(chain.from_iterable(task.test_lists)),
        "pair_list": task.test_split.pair_list,
        "pair_list_hash": {
            "train": task.train_split.pair_list_hash,
            "test": task.test_split.pair_list_hash,
        },
        "data_fingerprint": task.source.fingerprint(),
        "train_images": len(task.train_split.queries),
        "test_images": len(task.test_split.queries),
        "min_area_px": task.test_split.min_area_px,
    }


def _peak_memory_mb(device: torch.device) -> dict[str, float]:
    peaks = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device.type == "cuda":
        peaks["device"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peaks
