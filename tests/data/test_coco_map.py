"""COCO's published average precision on 100 images, through the tally that ranks add up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets.coco_boxes import read_boxes
from experiments.dense.coco_map import average_precision
from experiments.dense.tally import BoxTally, Detections

pytestmark = pytest.mark.data

PUBLISHED = {"bbox": (0.505, 0.697, 0.573), "segm": (0.320, 0.562, 0.299)}


@pytest.fixture(scope="module")
def oracle(real_data: Path) -> Path:
    folder = real_data / "coco-map"
    if not folder.is_dir():
        pytest.skip(f"real data: {real_data} has no folder coco-map")
    return folder


def read(path: Path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_published_ap_of_boxes_and_masks(oracle, kind):
    truth = read(oracle / "instances_val2014_100.json")
    found = average_precision(truth, read(oracle / f"{kind}_results_100.json"), kind)
    assert (found.map, found.map_50, found.map_75) == pytest.approx(PUBLISHED[kind], abs=0.0005)


def test_the_published_ap_on_any_number_of_ranks(oracle):
    truth = read_boxes(oracle / "instances_val2014_100.json", oracle)
    rows = {image.image_id: [] for image in truth.images}
    for each in read(oracle / "bbox_results_100.json"):
        rows[each["image_id"]].append((*each["bbox"], each["score"], each["category_id"]))
    states = []
    for world_size in (1, 2, 3):
        parts = []
        for rank in range(world_size):
            tally = BoxTally(truth)
            for index in range(rank, len(truth.images), world_size):
                table = np.array(rows[truth.images[index].image_id]).reshape(-1, 6)
                labels = table[:, 5].astype(np.int64)
                tally.add(index, Detections(table[:, :4], table[:, 4], labels), None)
            parts.append(tally.state())
        states.append(sum(parts[1:], start=parts[0]))
    assert all((state == states[0]).all() for state in states)
    metrics = BoxTally(truth).metrics(states[0])
    found = (metrics["map"], metrics["map_50"], metrics["map_75"])
    assert found == pytest.approx(PUBLISHED["bbox"], abs=0.0005)
