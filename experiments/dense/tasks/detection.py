"""Detection: boxes with classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from experiments.datasets.coco_boxes import BoxAnnotations
from experiments.dense.data import (
    BoxBatch,
    BoxItem,
    BoxTest,
    BoxTraining,
    collate_boxes,
    split_boxes,
)
from experiments.dense.models.detection import Detector, build_detection
from experiments.dense.models.published import NUM_OUTPUTS
from experiments.dense.sources import TEST
from experiments.dense.tally import BoxTally, Detections
from experiments.dense.tasks.base import DenseTask
from experiments.runtime.progress import Evaluation
from experiments.runtime.task import Selection, Term
from merge.storage.json_files import Json


class DetectionTask(DenseTask):
    """Trains a detector; its outputs are the category ids themselves, as torchvision has them."""

    selection = Selection("map", "max")

    def build(self) -> Detector:
        """The detector, with an output for each number up to the largest category id."""
        is_published = self.options.network.weights_of == "model"
        largest = max(self._train.categories)
        num_outputs = NUM_OUTPUTS["detection"] if is_published else largest + 1
        return build_detection(self.options, num_outputs, self.context.weights)

    def protocol(self) -> str:
        """Size of the test images, and what is counted."""
        short, long = self.options.short_side, self.options.long_side
        return f"short side {short}, at most {long}; COCO's AP of 100 boxes an image"

    def train_data(self, epoch: int) -> BoxTraining:
        """The training images with their boxes."""
        flip_probability = self.options.images.flip_probability
        places = self.data.train_places
        return BoxTraining(self._train, places, flip_probability, self.augmentation(epoch))

    def collate(self, items: Sequence[Any]) -> BoxBatch:
        """Lists of images and boxes."""
        return collate_boxes(items)

    def split(self, batch: BoxBatch, size: int) -> list[BoxBatch]:
        """Parts of the lists."""
        return split_boxes(batch, size)

    def weights(self, batch: BoxBatch) -> dict[str, int]:
        """The losses are means over images."""
        return {"items": len(batch.images)}

    def forward(self, model: nn.Module, batch: BoxBatch) -> dict[str, Tensor]:
        """The losses by name: a detector computes them along with its output."""
        pairs = zip(batch.boxes, batch.labels, strict=True)
        losses: dict[str, Tensor] = model(
            batch.images, [{"boxes": boxes, "labels": labels} for boxes, labels in pairs]
        )
        return losses

    def loss(self, output: dict[str, Tensor], batch: BoxBatch) -> list[Term]:
        """All of them with the same weight."""
        del batch
        return [Term(value.float(), "items") for value in output.values()]

    def eval_data(self, name: str) -> BoxTest:
        """The images of a list."""
        return BoxTest(self._annotations(name))

    def tally(self, name: str) -> BoxTally:
        """The boxes of all images of a list."""
        return BoxTally(self._annotations(name))

    def predict(self, model: nn.Module, item: BoxItem, device: torch.device) -> Detections:
        """The boxes that are found, in pixels of the photograph."""
        return self.predict_chunk(model, [item], device)[0]

    def predict_chunk(
        self, model: nn.Module, items: Sequence[BoxItem], device: torch.device
    ) -> Sequence[Detections]:
        """The boxes of several images, which the detector pads to one size."""
        return [_detections(each) for each in model([item.image.to(device) for item in items])]

    def describe(self, evaluation: Evaluation) -> dict[str, Json]:
        """The average precision of each category that has an object."""
        found = self.tally(TEST).average_precision(evaluation.states[TEST])
        names = self._train.categories
        return {
            **evaluation.summary(),
            "ap_per_category": {names[key]: value for key, value in found.by_category.items()},
        }

    @property
    def _train(self) -> BoxAnnotations:
        return cast(BoxAnnotations, self.data.train)

    def _annotations(self, name: str) -> BoxAnnotations:
        """Those of the images of a list alone."""
        images, places = self.data.of_list(name)
        annotations = cast(BoxAnnotations, images)
        return replace(annotations, images=tuple(annotations.images[place] for place in places))


def _detections(found: dict[str, Tensor]) -> Detections:
    """With width and height in the place of the second corner."""
    boxes = found["boxes"].double().cpu().numpy()
    boxes[:, 2:] -= boxes[:, :2]
    scores = found["scores"].double().cpu().numpy()
    return Detections(boxes, scores, found["labels"].cpu().numpy().astype(np.int64))
