"""Image classification as a task of the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.imagenet.data import ImagenetData, open_data
from experiments.imagenet.images import Images
from experiments.imagenet.model import Classifier, build_classifier, build_network, last_norm
from experiments.imagenet.options import Options
from experiments.imagenet.sizes import train_size
from experiments.imagenet.tally import ImageTally, Scored, macro_f1
from experiments.runtime.options import OptimiserOptions
from experiments.runtime.run_context import RunContext
from experiments.runtime.stages import Stage
from experiments.runtime.task import Selection, Task, Term
from merge.storage.json_files import Json

FIXRES = "fixres"

Batch = tuple[Tensor, Tensor]
"""Images B3HW in uint8, and their labels."""


class ImagenetTask(Task):
    """Trains on random crops that grow, and at the end on crops as in a test."""

    selection = Selection("top1", "max")
    identity_of_model = ("weights", "classes")
    options: Options

    def __init__(self, options: Options, context: RunContext, data: ImagenetData) -> None:
        super().__init__(options, context)
        self.data = data
        self.validation_list = "validation" if options.data.validation else None

    def build_model(self, device: torch.device) -> Classifier:
        """The network with random weights, or those of a weight file."""
        del device
        return build_classifier(self.options.model, self.data.num_classes, self.context.weights)

    def stages(self) -> list[Stage]:
        """The training, and the FixRes stage where it has an epoch."""
        options = self.options
        num_last = options.fixres.epochs if options.runtime.epochs else 0
        first = Stage(epochs=options.runtime.epochs - num_last, optimiser=options.optimiser)
        if not num_last:
            return [first]
        return [first, self._fixres(num_last)]

    def _fixres(self, epochs: int) -> Stage:
        fixres = self.options.fixres
        parts = ["network.fc"]
        if fixres.trains == "classifier_and_last_norm":
            with torch.device("meta"):
                network = build_network(self.options.model.network, self.data.num_classes)
            parts.append(f"network.{last_norm(network)}")
        optimiser = OptimiserOptions(
            lr=fixres.lr,
            momentum=self.options.optimiser.momentum,
            weight_decay=self.options.optimiser.weight_decay,
            schedule="cosine",
        )
        return Stage(
            name=FIXRES,
            epochs=epochs,
            trains=tuple(parts),
            optimiser=optimiser,
            image_size=self.options.sizes.test_size,
        )

    def image_size(self, epoch: int) -> int:
        """Side of the training images."""
        sizes = self.options.sizes
        return sizes.test_size if self.stage.name == FIXRES else train_size(epoch, sizes)

    def num_train_items(self) -> int:
        """Images in an epoch."""
        return len(self.data.chosen)

    def train_data(self, epoch: int) -> Images:
        """The images of an epoch, in the size that is set for it."""
        if self.stage.name == FIXRES:
            return self.data.train_as_tested()
        return self.data.random_crops(epoch, self.image_size(epoch))

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits of a batch."""
        return cast(Tensor, model(self._laid_out(batch[0])))

    def loss(self, output: Tensor, batch: Batch) -> list[Term]:
        """Cross entropy with label smoothing."""
        smoothing = self.options.augmentation.label_smoothing
        value = cross_entropy(output.float(), batch[1], label_smoothing=smoothing)
        return [Term(value, "items")]

    def train_counts(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Training crops by true and predicted class, over the whole epoch and all ranks."""
        num_classes = output.shape[1]
        pairs = batch[1] * num_classes + output.argmax(1)
        counts = torch.bincount(pairs, minlength=num_classes**2)
        return {"confusion": counts.view(num_classes, num_classes)}

    def train_metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        """Accuracy and macro F1 of an epoch's training crops, as fractions."""
        table = counts["confusion"].cpu().numpy().astype(np.int64)
        return {"acc": float(np.trace(table) / table.sum()), "f1": macro_f1(table)}

    def lists(self) -> tuple[str, ...]:
        """All test images; and the training images that are held out, where there are any."""
        return ("test", "validation") if self.validation_list else ("test",)

    def eval_data(self, name: str) -> Images:
        """The images of a list, cropped at their centre."""
        return self.data.eval_images(name)

    def tally(self, name: str) -> ImageTally:
        """A row for each image of a list."""
        return ImageTally(self.data.labels(name), self.data.num_classes)

    def predict(self, model: nn.Module, item: Any, device: torch.device) -> Scored:  # noqa: ANN401
        """What the model says of one image."""
        return self.predict_chunk(model, [item], device)[0]

    def predict_chunk(
        self,
        model: nn.Module,
        items: Sequence[Any],
        device: torch.device,
    ) -> list[Scored]:
        """The same of several images at once."""
        images = torch.stack([torch.as_tensor(item[0]) for item in items])
        labels = torch.tensor([int(item[1]) for item in items], device=device)
        images = self._laid_out(images.to(device, non_blocking=True))
        logits = model(images).float()
        if self.options.sizes.flip_test:
            logits = (logits + model(images.flip(3)).float()) / 2
        return _scored(logits, labels)

    def _laid_out(self, images_B3HW: Tensor) -> Tensor:
        if self.options.model.channels_last:
            return images_B3HW.contiguous(memory_format=torch.channels_last)
        return images_B3HW

    def identity(self, model: nn.Module) -> dict[str, str]:
        """A run goes on only with the same data and weight file."""
        return {
            "weights": cast(Classifier, model).weights_id,
            "data": f"{self.data.train.fingerprint} {self.data.test.fingerprint}",
            "classes": self.data.train.classes_hash,
        }

    def details(self, model: nn.Module) -> dict[str, Json]:
        """What must be equal to compare two results."""
        sizes = self.options.sizes
        return {
            "data_fingerprint": self.data.test.fingerprint,
            "train_fingerprint": self.data.train.fingerprint,
            "classes": self.data.num_classes,
            "train_images": len(self.data.chosen),
            "validation_images": len(self.data.held_out),
            "test_images": len(self.data.tested),
            "test_size": sizes.test_size,
            "test_crop": sizes.test_crop,
            "flip_test": sizes.flip_test,
            "weights": cast(Classifier, model).weights_id,
        }


def _scored(logits_BC: Tensor, labels_B: Tensor) -> list[Scored]:
    loss_B = cross_entropy(logits_BC, labels_B, reduction="none")
    most = min(5, logits_BC.shape[1])
    top_Bk = logits_BC.topk(most, dim=1).indices
    in_top5_B = (top_Bk == labels_B[:, None]).any(1)
    # One transfer for all of them: each waits for the GPU.
    rows = torch.stack([top_Bk[:, 0].double(), in_top5_B.double(), loss_B.double()], dim=1)
    return [Scored(int(predicted), bool(hit), loss) for predicted, hit, loss in rows.tolist()]


def open_task(options: Options, context: RunContext) -> ImagenetTask:
    """List the images. DataError: they are missing, or cannot be used."""
    return ImagenetTask(options, context, open_data(options, context.data_root, context.cache_dir))
