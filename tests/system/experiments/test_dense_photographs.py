"""Segmentation and detection on real photographs, on an ImageNet backbone, beat the untrained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import replicate

from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.data, pytest.mark.timeout(600)]

STUDY = """
name: photographs
experiment: dense
axes: {{variant: [{variant}], seed: [0]}}
average_over: seed
metric: {metric}
cell: "{{variant}}"
run_path: "{{cell}}/seed{{seed}}"
fixed: {{backbone: efficientnet_lite0, dataset: coco2014, num_test_images: 31, report: final,
        eval_every: 6, tensorboard: false, {values}}}
resources: {{device: cpu, devices_per_run: 1, num_workers: 0}}
"""

SEGMENTATION = (
    "task: segmentation, model: fcn, epochs: 2, global_batch: 4, lr: 0.01, auxiliary_rate: 1, "
    "num_train_images: 40, short_side: 97, crop_size: 81"
)
DETECTION = (
    "task: detection, model: faster_rcnn, epochs: 6, global_batch: 2, optimizer: adamw, "
    "lr: 0.001, schedule: constant, weight_decay: 0, clip_norm: 5, num_proposals: 50, "
    "short_side: 128, long_side: 224"
)


def trained(folder: Path, metric: str, values: str, data_root: Path, variant: str = "full"):
    (folder / "photographs.yaml").write_text(
        STUDY.format(metric=metric, values=values, variant=variant)
    )
    words = ("--study", "photographs.yaml", "--data-root", data_root, "--devices", "cpu:1")
    done = replicate(*words, cwd=folder, timeout_s=600)
    assert done.returncode == 0, done.stderr
    details = read_json(folder / "outputs" / "photographs" / variant / "seed0" / "result.json")
    return details["details"]["untrained"], details["details"]["final"]


def test_segmentation_by_vocs_classes_beats_the_untrained_model(real_data, tmp_path):
    untrained, final = trained(tmp_path, "miou", SEGMENTATION, real_data / "coco-mini")
    assert final["pixel_accuracy"] > untrained["pixel_accuracy"] + 0.3
    assert final["miou"] > 3 * untrained["miou"]


def test_detection_of_people_beats_the_untrained_model(real_data, tmp_path):
    """One of the 80 categories: of the others 80 photographs show too few objects to learn."""
    given, root = real_data / "coco-mini", tmp_path / "people"
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        name = f"annotations/instances_{split}2014.json"
        record = json.loads((given / name).read_text())
        record["annotations"] = [a for a in record["annotations"] if a["category_id"] == 1]
        record["categories"] = [c for c in record["categories"] if c["id"] == 1]
        (root / name).write_text(json.dumps(record))
        (root / f"{split}2014").symlink_to(given / f"{split}2014")
    untrained, final = trained(tmp_path, "map", DETECTION, root, "frozen_backbone")
    assert final["map_50"] > untrained["map_50"] + 0.01
    assert final["recall_100"] > 2 * untrained["recall_100"]
    assert set(final["ap_per_category"]) == {"person"}
