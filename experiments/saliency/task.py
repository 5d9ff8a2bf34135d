"""Saliency prediction as a task of the runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from experiments.runtime.progress import Evaluation
from experiments.runtime.run_context import RunContext
from experiments.runtime.task import Selection, Task, Term
from experiments.saliency.data import TEST, VALIDATION, SaliencyData, split_data
from experiments.saliency.features import build_features
from experiments.saliency.items import EvalItem, EvalItems, TrainBatch, TrainItems
from experiments.saliency.model import SaliencyModel
from experiments.saliency.open_source import open_source
from experiments.saliency.options import Options
from experiments.saliency.points import Grid
from experiments.saliency.source import fingerprint
from experiments.saliency.tally import ImageScores
from merge.storage.json_files import Json, canonical_json


class SaliencyTask(Task):
    """Trains a readout on the fixations of the training images, tests it on the others."""

    selection = Selection("ig", "max")
    options: Options

    def __init__(self, options: Options, context: RunContext, data: SaliencyData) -> None:
        super().__init__(options, context)
        self.data = data
        self.validation_list = VALIDATION if data.split.validation else None

    def build_model(self, device: torch.device) -> SaliencyModel:
        """The readout over frozen features."""
        del device
        model = self.options.model
        features = build_features(model.backbone, self.context.weights)
        return SaliencyModel(features, model.hidden, model.blur_cells)

    def num_train_items(self) -> int:
        """Training images."""
        return len(self.data.split.train)

    def train_data(self, epoch: int) -> TrainItems:
        """All training images, mirrored anew in each epoch."""
        return self.data.train_items(epoch)

    def weights(self, batch: TrainBatch) -> dict[str, int]:
        """The likelihood is a mean over fixations, the entropy one over images."""
        return {"fixations": int(batch["counts"].sum()), "images": len(batch["image"])}

    def forward(self, model: nn.Module, batch: TrainBatch) -> Tensor:
        """Log density over the cells of the images, Bhw."""
        log_density: Tensor = model(batch["image"], batch["log_bias"])
        return log_density

    def loss(self, output: Tensor, batch: TrainBatch) -> list[Term]:
        """The negative log likelihood; in the variant entropy minus the entropy, weighted."""
        terms = [Term(negative_log_likelihood(output, batch["counts"]), "fixations")]
        if self.options.variant == "entropy":
            terms.append(Term(-entropy(output), "images", self.options.entropy_weight))
        return terms

    def frozen(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The features' state."""
        return cast(SaliencyModel, model).features.state_dict(prefix="features.")

    def image_size(self, epoch: int) -> tuple[int, int]:
        """Height and width of the model's input."""
        del epoch
        return self.options.input_size[::-1]

    def lists(self) -> tuple[str, ...]:
        """The tested images, and those on which the best epoch is chosen, where there are any."""
        return (TEST,) if self.validation_list is None else (TEST, VALIDATION)

    def eval_data(self, name: str) -> EvalItems:
        """The images of a list."""
        return self.data.eval_items(name)

    def tally(self, name: str) -> ImageScores:
        """The scores of each image of a list."""
        return ImageScores(len(self.data.images(name)))

    def predict(self, model: nn.Module, item: EvalItem, device: torch.device) -> Grid:
        """Log density over the pixels of the image at its own size, float64."""
        return self.predict_chunk(model, [item], device)[0]

    def predict_chunk(
        self, model: nn.Module, items: Sequence[EvalItem], device: torch.device
    ) -> list[Grid]:
        """The same for several images, whose features are computed together."""
        saliency = cast(SaliencyModel, model)
        priority_B1hw = saliency.priority(torch.stack([item.image for item in items]).to(device))
        found: list[Grid] = []
        for priority_1hw, item in zip(priority_B1hw, items, strict=True):
            # In double precision on any device: a softmax over a million pixels.
            log_bias_1HW = torch.from_numpy(item.truth.log_baseline)[None].to(device)
            log_density_1HW = saliency.log_density(priority_1hw[None], log_bias_1HW)
            found.append(log_density_1HW[0].cpu().numpy())
        return found

    def identity(self, model: nn.Module) -> dict[str, str]:
        """A run goes on only with the same weights, data and tested images."""
        return {
            "weights": cast(SaliencyModel, model).features.weights_id,
            "data": fingerprint(self.data.source),
            "test images": self._test_list_hash(),
        }

    def describe(self, evaluation: Evaluation) -> dict[str, Json]:
        """The metrics, and the information gain of each tested image."""
        rows = np.asarray(evaluation.states[TEST])
        gains = dict(zip(self._test_names(), rows[:, 0].tolist(), strict=True))
        return {**evaluation.summary(), "ig_per_image": gains}

    def details(self, model: nn.Module) -> dict[str, Json]:
        """Data, split and weights."""
        return {
            "weights": cast(SaliencyModel, model).features.weights_id,
            "data_fingerprint": fingerprint(self.data.source),
            "test_list_hash": self._test_list_hash(),
            "train_images": len(self.data.split.train),
            "test_images": len(self.data.split.test),
            "validation_images": len(self.data.split.validation),
            # The number of images differs between folds by one.
            "validation_share": self.options.data.validation,
            "fixations": self.options.data.fixations,
            "split": self.options.data.split,
        }

    def _test_names(self) -> Sequence[str]:
        stimuli = self.data.source.stimuli
        return [stimuli[index].name for index in self.data.split.test]

    def _test_list_hash(self) -> str:
        return hashlib.sha256(canonical_json(list(self._test_names()))).hexdigest()[:16]


def negative_log_likelihood(log_density_Bhw: Tensor, counts_Bhw: Tensor) -> Tensor:
    """Mean over the fixations of all images, in nats; 0 without any."""
    num_fixations = counts_Bhw.sum().clamp(min=1)
    return -(log_density_Bhw * counts_Bhw).sum() / num_fixations


def entropy(log_density_Bhw: Tensor) -> Tensor:
    """Mean over the images of the density's entropy, in nats."""
    return -(log_density_Bhw.exp() * log_density_Bhw).sum(dim=(1, 2)).mean()


def open_task(options: Options, context: RunContext) -> SaliencyTask:
    """Open the data set and divide it. DataError: it is missing or damaged."""
    chosen = options.data
    source = open_source(
        chosen.dataset,
        context.data_root,
        context.cache_dir,
        fixations=chosen.fixations,
        storage=chosen.storage,
    )
    return SaliencyTask(options, context, split_data(options, source))
