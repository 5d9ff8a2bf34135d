"""Segmentation: a class for each pixel."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.datasets.labels import IGNORE, Bytes
from experiments.dense.data import PixelItem, PixelTest, PixelTraining
from experiments.dense.label_maps import LabelledImages
from experiments.dense.models.network import DenseModel
from experiments.dense.models.segmentation import build_segmentation
from experiments.dense.sources import TEST
from experiments.dense.tally import PixelTally, iou_per_class
from experiments.dense.tasks.base import DenseTask
from experiments.dense.voc_labels import NUM_CLASSES
from experiments.runtime.finite import require_finite
from experiments.runtime.progress import Evaluation
from experiments.runtime.stages import ParameterGroup
from experiments.runtime.task import Selection, Term
from merge.storage.json_files import Json


class SegmentationTask(DenseTask):
    """Trains on crops, tests whole images at the resized size, as torchvision's recipe does."""

    selection = Selection("miou", "max")

    def build(self) -> DenseModel:
        """The segmentation model."""
        return build_segmentation(self.options.network, NUM_CLASSES, self.context.weights)

    def protocol(self) -> str:
        """Size of the test images, and what is counted."""
        return f"short side {self.options.short_side}, counted at that size, {NUM_CLASSES} classes"

    def groups(self) -> tuple[ParameterGroup, ...]:
        """The auxiliary head learns faster."""
        if self.options.network.model == "lraspp":
            return ()
        parts, rate = ("net.aux_classifier",), self.options.network.auxiliary_rate
        return (ParameterGroup(parts=parts, rate_factor=rate),)

    def train_data(self, epoch: int) -> PixelTraining:
        """Crops of the training images."""
        return PixelTraining(
            cast(LabelledImages, self.data.train),
            self.data.train_places,
            self.options,
            self.augmentation(epoch),
            self.options.crop_size,
        )

    def weights(self, batch: tuple[Tensor, Tensor]) -> dict[str, int]:
        """Both terms are means over the pixels that count."""
        return {"pixels": int((batch[1] != IGNORE).sum())}

    def forward(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Logits by head."""
        logits: dict[str, Tensor] = model(batch[0])
        return logits

    def loss(self, output: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> list[Term]:
        """Cross entropy of the main and the auxiliary head."""
        factors = {"out": 1.0, "aux": self.options.network.auxiliary_weight}
        return [
            Term(pixel_loss(logits, batch[1]), "pixels", factors[head])
            for head, logits in output.items()
        ]

    def eval_data(self, name: str) -> PixelTest:
        """The images of a list."""
        images, places = self.data.of_list(name)
        return PixelTest(cast(LabelledImages, images), places, self.options.short_side)

    def tally(self, name: str) -> PixelTally:
        """The confusion matrix."""
        del name
        return PixelTally(NUM_CLASSES)

    def predict(self, model: nn.Module, item: PixelItem, device: torch.device) -> Bytes:
        """The class of each pixel, uint8 HW."""
        logits_CHW = model(item.image.to(device)[None])["out"][0]
        # The class with the highest of several NaN is a class like any other.
        require_finite(logits_CHW, "a logit")
        labels: Bytes = logits_CHW.argmax(0).to(torch.uint8).cpu().numpy()
        return labels

    def describe(self, evaluation: Evaluation) -> dict[str, Json]:
        """The IoU of each class; null of one that is neither there nor predicted."""
        state = evaluation.states[TEST]
        iou = [None if math.isnan(value) else value for value in iou_per_class(state).tolist()]
        return {
            **evaluation.summary(),
            "iou_per_class": {str(number): value for number, value in enumerate(iou)},
        }


def pixel_loss(logits_BCHW: Tensor, labels_BHW: Tensor) -> Tensor:
    """Mean cross entropy over the labelled pixels; 0 where there is none."""
    total = cross_entropy(
        logits_BCHW.float(), labels_BHW.long(), ignore_index=IGNORE, reduction="sum"
    )
    return total / (labels_BHW != IGNORE).sum().clamp(min=1)
