"""What the three tasks share: what trains, what is in no checkpoint, what is recorded."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from experiments.dense.data import Augmentation
from experiments.dense.models.network import DenseModel, head_parts
from experiments.dense.options import Options
from experiments.dense.sources import TEST, VALIDATION, Images
from experiments.runtime.run_context import RunContext
from experiments.runtime.stages import ParameterGroup, Stage
from experiments.runtime.task import Task
from merge.storage.json_files import Json, canonical_json


class DenseTask(Task):
    """One of the tasks on its images."""

    options: Options

    def __init__(self, options: Options, context: RunContext, images: Images) -> None:
        super().__init__(options, context)
        self.data = images
        if images.validation_places:
            self.validation_list = VALIDATION

    @abstractmethod
    def build(self) -> DenseModel:
        """The model with its weights."""

    @abstractmethod
    def protocol(self) -> str:
        """How the test images are resized and counted, in a few words."""

    def build_model(self, device: torch.device) -> DenseModel:
        """The model before training."""
        del device
        return self.build()

    def stages(self) -> Sequence[Stage]:
        """One; with a frozen backbone only the head trains, and batch statistics rest too."""
        network = self.options.network
        is_frozen = network.variant == "frozen_backbone"
        (stage,) = super().stages()
        return [
            replace(
                stage,
                trains=head_parts(network) if is_frozen else None,
                groups=self.groups(),
                image_size=self.options.crop_size or None,
            )
        ]

    def groups(self) -> tuple[ParameterGroup, ...]:
        """Parts of the model with a learning rate of their own."""
        return ()

    def lists(self) -> tuple[str, ...]:
        """The test images, and those on which the best epoch is chosen."""
        return (TEST, VALIDATION) if self.validation_list else (TEST,)

    def num_train_items(self) -> int:
        """Training images in an epoch."""
        return len(self.data.train_places)

    def frozen(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The state of a frozen backbone."""
        is_frozen = self.options.network.variant == "frozen_backbone"
        return cast(DenseModel, model).backbone_state() if is_frozen else {}

    def identity(self, model: nn.Module) -> dict[str, str]:
        """A run goes on only with the same weights, data and images."""
        return {
            "weights": cast(DenseModel, model).weights_id,
            "data": self.data.fingerprint,
            "training images": self._hash(self.data.train_places),
            "validation images": self._hash(self.data.validation_places),
            "test images": self.test_list_hash,
        }

    def details(self, model: nn.Module) -> dict[str, Json]:
        """Protocol, images and weights."""
        return {
            "task": self.options.task,
            "protocol": self.protocol(),
            "weights": cast(DenseModel, model).weights_id,
            "data_fingerprint": self.data.fingerprint,
            "train_images": len(self.data.train_places),
            "validation_images": len(self.data.validation_places),
            "test_images": len(self.data.test_places),
            "test_list_hash": self.test_list_hash,
            "num_parameters": sum(each.numel() for each in model.parameters()),
        }

    @property
    def test_list_hash(self) -> str:
        """A digest of the names of the tested images."""
        files = self.data.test.files
        return self._hash([files[place] for place in self.data.test_places])

    def augmentation(self, epoch: int) -> Augmentation:
        """The random stream of an epoch's images."""
        return Augmentation(self.options.runtime.seed, epoch)

    @staticmethod
    def _hash(content: Sequence[int | str]) -> str:
        return hashlib.sha256(canonical_json(list(content))).hexdigest()[:16]
