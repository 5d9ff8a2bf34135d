"""What a training needed: items a second, and the peak memory of each rank."""

from __future__ import annotations

import resource

import torch

from experiments.runtime.distributed import gather_objects
from experiments.runtime.progress import Progress
from experiments.runtime.setup import Setup
from merge.storage.json_files import Json


def peak_memory_mb(device: torch.device) -> dict[str, float]:
    """Most memory that this process held: of the host, and of its GPU."""
    peaks = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device.type == "cuda":
        peaks["device"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peaks


def probe(progress: Progress, setup: Setup, num_steps: int) -> dict[str, Json]:
    """The probe of a run, as its result holds it. All ranks call it.

    `evenness` is the least of the ranks' peaks over the largest: 1 is even. Time counts from the
    first batch that is asked for to the last step, with loading and checkpoints, over all attempts.
    """
    peaks = gather_objects(peak_memory_mb(setup.ranks.device), setup.ranks)
    by_rank = {kind: [peak[kind] for peak in peaks] for kind in peaks[0]}
    options, seconds = setup.task.options.runtime, progress.seconds["train"]
    items_per_s = num_steps * options.global_batch / seconds if seconds else 0.0
    return {
        "peak_memory_mb": {kind: max(each) for kind, each in by_rank.items()},
        "train_items_per_s": round(items_per_s, 3),
        "peak_memory_mb_by_rank": {kind: list(each) for kind, each in by_rank.items()},
        "evenness": {kind: round(min(each) / max(each), 4) for kind, each in by_rank.items()},
    }
