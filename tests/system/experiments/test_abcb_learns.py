"""ABCB on real photographs: it learns a fixed small set, and its later iterations keep up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.fewshot import new_method
from torch import Tensor

from experiments.backbones.cells import CellGrid
from experiments.fewshot.episodes.lists import train_list
from experiments.fewshot.episodes.protocols import build_split
from experiments.fewshot.episodes.source import open_source
from experiments.fewshot.episodes.transforms import TrainTransform
from experiments.fewshot.loading import TrainBatch, TrainDataset, collate, share_images
from experiments.fewshot.models.base import Output, predict
from experiments.fewshot.models.losses import IGNORED, segmentation_loss

pytestmark = [pytest.mark.system, pytest.mark.data]

NUM_EPISODES, NUM_STEPS, SIDE = 4, 150, 129
MIN_AREA_PX = 128 * 128  # at 17x17 cells the outlines of small objects alone cost a tenth
OPTIONS = {"abcb_channels": 64, "abcb_num_heads": 4}


def test_abcb_learns_a_fixed_small_set_and_no_iteration_is_worse_than_the_first(
    real_data: Path, tmp_path: Path
) -> None:
    batch, classes = _fixed_set(real_data / "coco-mini", tmp_path)
    torch.manual_seed(0)
    model = new_method("abcb", "efficientnet_lite0", **OPTIONS)
    query_B3HW = batch.query.painted(model.mean_rgb)
    images = torch.cat([query_B3HW, batch.support.painted(model.mean_rgb).flatten(0, 1)])
    with torch.no_grad():
        levels = model.encode(images)
    query = tuple(level[:NUM_EPISODES] for level in levels)
    support = tuple(level[NUM_EPISODES:, None] for level in levels)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9, weight_decay=1e-4)

    def segment() -> Output:
        return model.segment(query_B3HW, query, support, batch.support_mask)

    untrained = _mious(segment(), batch.target, classes)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        segmentation_loss(segment(), batch.target).backward()
        optimizer.step()
    first, second, third = _mious(segment(), batch.target, classes)
    print(f"untrained {untrained}, trained {first, second, third}")
    assert max(untrained) < 0.6
    assert third > 0.9
    assert min(second, third) > first - 0.005


def _fixed_set(root: Path, cache: Path) -> tuple[TrainBatch, list[int]]:
    source = open_source("coco20i", root, cache, mask_variant="exact")
    split = build_split(source, "bam", 0, "train", min_area_px=MIN_AREA_PX)
    episodes = train_list(split, shot=1, num_episodes=NUM_EPISODES, seed=0, epoch=0)
    transform = TrainTransform(size=SIDE, scale_range=(1.0, 1.0), flip_probability=0.0)
    dataset = TrainDataset(share_images(source), episodes, transform, seed=0, epoch=0)
    batch = collate([dataset[index] for index in range(NUM_EPISODES)])
    return batch, [episode.class_id for episode in episodes]


def _mious(output: Output, target_BHW: Tensor, classes: list[int]) -> list[float]:
    """mIoU of iterations 1, 2 and 3."""
    earlier = [logits for logits, weight in output.auxiliary if weight == 1.0]
    return [_miou(logits, output.grid, target_BHW, classes) for logits in (*earlier, output.logits)]


def _miou(logits: Tensor, grid: CellGrid, target_BHW: Tensor, classes: list[int]) -> float:
    is_valid = target_BHW != IGNORED
    truth, guess = (target_BHW == 1) & is_valid, predict(logits, grid) & is_valid
    ious = []
    for class_id in set(classes):
        rows = [row for row, other in enumerate(classes) if other == class_id]
        union = (truth[rows] | guess[rows]).sum()
        ious.append(float((truth[rows] & guess[rows]).sum() / union))
    return sum(ious) / len(ious)
