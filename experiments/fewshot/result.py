"""What a few-shot result holds besides what every result holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from experiments.fewshot.data import FewShotData
from experiments.fewshot.episode_counts import EpisodeCounts, bootstrap
from experiments.fewshot.episodes.bam import episode_list_hash
from experiments.fewshot.metrics import IoUCounts
from merge.results.statistics import sample_std
from merge.storage.json_files import Json

__all__ = ["EpisodeCounts", "data_details", "describe"]


def describe(
    summary: Mapping[str, Json], episodes: Sequence[EpisodeCounts], has_interval: bool
) -> dict[str, Json]:
    """The summary with each class's IoU and counts; for several test seeds, those of each."""
    details = dict(summary)
    if has_interval:
        details["bootstrap"] = bootstrap(episodes)
    totals = [counts.total() for counts in episodes]
    if len(totals) == 1:
        return {**details, **_by_class(totals[0])}
    each = [
        {"miou": counts.miou(), "fb_iou": counts.fb_iou(), **_by_class(counts)} for counts in totals
    ]
    spread: dict[str, Json] = {
        name: sample_std([float(entry[name]) for entry in each]) for name in ("miou", "fb_iou")
    }
    return {**details, "std": spread, "by_test_seed": each}


def data_details(data: FewShotData) -> dict[str, Json]:
    """Protocol, folds, lists and data of a run: what must be equal to compare two results."""
    options = data.options
    return {
        "protocol": options.data.protocol,
        "mask_variant": data.source.mask_variant,
        "shot": options.data.shot,
        "fold": options.data.fold,
        "eval_size": "original" if options.counts_at_original_size else "resized",
        "test_seeds": list(options.test_seeds),
        "test_episodes": options.test.test_episodes,
        "episode_list_hash": episode_list_hash(chain.from_iterable(data.test_lists)),
        "pair_list": data.test_split.pair_list,
        "pair_list_hash": {
            "train": data.train_split.pair_list_hash,
            "test": data.test_split.pair_list_hash,
        },
        "data_fingerprint": data.source.fingerprint(),
        "train_images": len(data.train_split.queries),
        "test_images": len(data.test_split.queries),
        "min_area_px": data.test_split.min_area_px,
    }


def _by_class(counts: IoUCounts) -> dict[str, Any]:
    return {
        "iou_per_class": {str(c): iou for c, iou in counts.per_class().items()},
        "missing_classes": list(counts.missing_classes()),
        "counts": counts.to_json(),
    }
