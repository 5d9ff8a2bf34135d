"""Options of a test experiment that trains its decoder first, then everything on larger images."""

from dataclasses import dataclass
from typing import Annotated

from experiments.runtime.options import OptimiserOptions, Range, RuntimeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    decoder_epochs: Annotated[int, Range(0)] = 2
    """Epochs in which the decoder alone trains, of all epochs."""
    resize_epoch: Annotated[int, Range(0)] = 3
    """Epoch, counted from 0, from which on images are larger again, inside the second stage."""
    runtime: RuntimeOptions = RuntimeOptions(epochs=4, global_batch=8)
    optimiser: OptimiserOptions = OptimiserOptions(lr=0.05)
