"""The data of one run: images, split, centre bias."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.saliency.centre_bias import CentreBias, Pool
from experiments.saliency.items import EvalItems, TrainItems
from experiments.saliency.options import Options
from experiments.saliency.source import Source, fractions
from experiments.saliency.splits import Split, split_of_data

TEST, VALIDATION = "test", "validation"
"""The lists that are evaluated."""


@dataclass(frozen=True, slots=True)
class SaliencyData:
    """What a run trains and tests on; all of it follows from the configuration and the images."""

    options: Options
    source: Source
    split: Split
    bias: CentreBias
    """Over the fixations of the training images alone: the model may see it."""
    everyone: Pool
    """The fixations of all images."""

    def train_items(self, epoch: int) -> TrainItems:
        """The training images of `epoch`, counted from 0."""
        options = self.options
        return TrainItems(
            source=self.source,
            images=self.split.train,
            bias=self.bias,
            size=options.input_size,
            flip_probability=options.images.flip_probability,
            seed=options.runtime.seed,
            epoch=epoch,
        )

    def eval_items(self, name: str) -> EvalItems:
        """The images of the list `name`: test or validation."""
        return EvalItems(
            source=self.source,
            images=self.images(name),
            bias=self.bias,
            others=self.everyone,
            size=self.options.input_size,
            blur_px=self.options.pixels_per_degree,
        )

    def images(self, name: str) -> tuple[int, ...]:
        """Places of the images of the list `name`."""
        return self.split.validation if name == VALIDATION else self.split.test


def split_data(options: Options, source: Source) -> SaliencyData:
    """Divide the images as the options say. UsageError: there are too few."""
    split = split_of_data(options.data, len(source.stimuli))
    points = fractions(source)
    bias = CentreBias(
        Pool.of(points, split.train), options.bias.bias_bandwidth, options.bias.bias_uniform
    )
    return SaliencyData(options, source, split, bias, Pool.of(points, range(len(points))))
