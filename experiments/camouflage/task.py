"""Camouflaged object segmentation as a task of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import nn
from torch.nn.functional import interpolate

from experiments.camouflage.data.loading import EvalImages, EvalItem, TrainBatch, TrainImages
from experiments.camouflage.data.splits import CamouflageData, open_data
from experiments.camouflage.losses import loss_terms
from experiments.camouflage.measures.maps import Grey
from experiments.camouflage.model import CamouflageModel, Maps, build_model
from experiments.camouflage.options import Options
from experiments.camouflage.panels import write_panels
from experiments.camouflage.tally import ImageTally
from experiments.runtime.finite import require_finite
from experiments.runtime.progress import Evaluation
from experiments.runtime.run_context import RunContext
from experiments.runtime.stages import ParameterGroup, Stage
from experiments.runtime.task import Selection, Task, Term
from merge.storage.json_files import Json


class CamouflageTask(Task):
    """Trains on images with masks; tests at each image's own size."""

    selection = Selection("s_alpha", "max")
    options: Options

    def __init__(self, options: Options, context: RunContext, data: CamouflageData) -> None:
        super().__init__(options, context)
        self.data = data
        self.validation_list = "val" if data.validation else None

    def build_model(self, device: torch.device) -> CamouflageModel:
        """Encoder and decoder; both train, where the stage says so."""
        del device
        return build_model(self.options, self.context.weights)

    def stages(self) -> Sequence[Stage]:
        """The decoder alone, then everything, the pretrained encoder at a lower rate."""
        options, first = self.options, self.options.decoder_stage
        factor = 1.0 if options.encoder.from_scratch else options.encoder.backbone_rate_factor
        return [
            Stage(
                name="decoder",
                epochs=first.epochs,
                trains=("decoder",),
                optimiser=replace(options.optimiser, lr=first.lr),
                image_size=options.image_size,
            ),
            Stage(
                name="all",
                epochs=options.runtime.epochs - first.epochs,
                optimiser=options.optimiser,
                groups=(ParameterGroup(parts=("encoder",), rate_factor=factor),),
                image_size=options.image_size,
            ),
        ]

    def train_data(self, epoch: int) -> TrainImages:
        """The training images as this epoch varies them."""
        options = self.options
        seed = options.runtime.seed
        pairs = self.data.epoch(options.data.images_per_epoch, seed, epoch)
        return TrainImages(pairs, options.image_size, options.augment, seed, epoch)

    def forward(self, model: nn.Module, batch: TrainBatch) -> Maps:
        """Logits of all levels."""
        maps: Maps = model(batch.image)
        return maps

    def loss(self, output: Maps, batch: TrainBatch) -> Sequence[Term]:
        """Structure loss of each level, and the experts' balance."""
        return loss_terms(output, batch.truth, self.options.decoder.balance_weight)

    def lists(self) -> tuple[str, ...]:
        """The validation images, unless the best epoch is chosen on the test images."""
        return ("val", "test") if self.data.validation else ("test",)

    def eval_data(self, name: str) -> EvalImages:
        """The images of a list."""
        return EvalImages(self.data.of(name), self.options.image_size)

    def tally(self, name: str) -> ImageTally:
        """The scores of each image of a list."""
        return ImageTally(len(self.data.of(name)))

    def predict(self, model: nn.Module, item: EvalItem, device: torch.device) -> Grey:
        """The grey map of one image at the size of its mask."""
        return self.predict_chunk(model, [item], device)[0]

    def predict_chunk(
        self, model: nn.Module, items: Sequence[EvalItem], device: torch.device
    ) -> list[Grey]:
        """The grey maps of several images, each at the size of its mask, rounded as in a PNG."""
        images = torch.stack([item.image for item in items]).to(device)
        logits = cast(Maps, model(images)).logits[0].float()
        # A map of bytes shows no NaN any more: it would be black.
        require_finite(logits, "a logit")
        return [_grey_map(each, item.truth.shape) for each, item in zip(logits, items, strict=True)]

    def identity(self, model: nn.Module) -> dict[str, str]:
        """A run goes on only with the same weights, data and validation images."""
        return {
            "weights": cast(CamouflageModel, model).encoder.weights_id,
            "data": self.data.fingerprint,
            "validation images": self.data.validation_hash,
        }

    def details(self, model: nn.Module) -> dict[str, Json]:
        """Data, lists and weights."""
        weights = cast(CamouflageModel, model).encoder.weights_id
        return {**self.data.details(), "weights": weights, "best_on": self.options.data.best_on}

    def finish(self, model: nn.Module, reported: Evaluation, device: torch.device) -> None:
        """Draw some test images, evenly spread over the list, with their maps."""
        del reported
        images = self.eval_data("test")
        num_shown = min(self.options.num_panels, len(images))
        if num_shown == 0:
            return
        items = [images[place * len(images) // num_shown] for place in range(num_shown)]
        with torch.inference_mode():
            maps = [self.predict(model, item, device) for item in items]
        rows = [
            (item.image.permute(1, 2, 0).numpy(), item.truth, found)
            for item, found in zip(items, maps, strict=True)
        ]
        write_panels(self.context.panels / "test.png", rows)


def open_task(options: Options, context: RunContext) -> CamouflageTask:
    """Open the data set and draw the validation images. DataError: it is missing or damaged."""
    data = open_data(options.data, context.data_root, context.cache_dir)
    return CamouflageTask(options, context, data)


def _grey_map(logits_1HW: torch.Tensor, size: tuple[int, ...]) -> Grey:
    enlarged = interpolate(logits_1HW[None], size=size, mode="bilinear", align_corners=False)
    rounded = (enlarged[0, 0].sigmoid() * 255).round().to(torch.uint8)
    return cast(Grey, rounded.cpu().numpy())
