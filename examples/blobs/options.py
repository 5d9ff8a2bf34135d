"""Options of the example `blobs`: find the centre of a bright blob in a noisy image."""

from dataclasses import dataclass
from typing import Annotated

from experiments.runtime.options import OptimiserOptions, Range, RuntimeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    noise: Annotated[float, Range(0, 1)] = 0.1
    """Standard deviation of the noise on each pixel."""
    width: Annotated[int, Range(1)] = 32
    """Hidden units of the model."""
    runtime: RuntimeOptions = RuntimeOptions(epochs=4, global_batch=16)
    optimiser: OptimiserOptions = OptimiserOptions(optimizer="adamw", lr=0.01)
