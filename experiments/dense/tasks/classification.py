"""Classification: a class for each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.datasets.image_folder import ImageFolder
from experiments.dense.data import ClassItem, ClassTest, ClassTraining
from experiments.dense.models.classification import build_classifier
from experiments.dense.models.network import DenseModel
from experiments.dense.tally import ClassTally
from experiments.dense.tasks.base import DenseTask
from experiments.runtime.task import Selection, Term


class ClassificationTask(DenseTask):
    """Trains on random crops, tests the centre of each image."""

    selection = Selection("top1", "max")
    identity_of_model = ("weights", "classes")

    def build(self) -> DenseModel:
        """The classifier."""
        return build_classifier(
            self.options.network, len(self._train.classes), self.context.weights
        )

    def protocol(self) -> str:
        """Size of the test images."""
        return f"short side {self.options.short_side}, centre crop {self.options.crop_size}"

    def identity(self, model: nn.Module) -> dict[str, str]:
        """Also the classes: other ones would be taken for those of the training."""
        return {**super().identity(model), "classes": self._train.classes_hash}

    def train_data(self, epoch: int) -> ClassTraining:
        """Random crops of the training images."""
        return ClassTraining(
            self._train,
            self.data.train_places,
            self.options,
            self.augmentation(epoch),
            self.options.crop_size,
        )

    def forward(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Logits BC."""
        logits: Tensor = model(batch[0])
        return logits

    def loss(self, output: Tensor, batch: tuple[Tensor, Tensor]) -> list[Term]:
        """Cross entropy, a mean over images."""
        return [Term(cross_entropy(output.float(), batch[1]), "items")]

    def eval_data(self, name: str) -> ClassTest:
        """The images of a list."""
        images, places = self.data.of_list(name)
        options = self.options
        return ClassTest(cast(ImageFolder, images), places, options.short_side, options.crop_size)

    def tally(self, name: str) -> ClassTally:
        """Right images by class."""
        del name
        return ClassTally(len(self._train.classes))

    def predict(
        self, model: nn.Module, item: ClassItem, device: torch.device
    ) -> NDArray[np.float32]:
        """The score of each class."""
        return self.predict_chunk(model, [item], device)[0]

    def predict_chunk(
        self, model: nn.Module, items: Sequence[ClassItem], device: torch.device
    ) -> Sequence[NDArray[np.float32]]:
        """The scores of several images, which all have one size."""
        images_B3HW = torch.stack([item.image for item in items]).to(device)
        return list(model(images_B3HW).float().cpu().numpy())

    @property
    def _train(self) -> ImageFolder:
        return cast(ImageFolder, self.data.train)
