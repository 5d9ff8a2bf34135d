"""Options of a test experiment whose numbers depend on which test items are predicted together."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from experiments.runtime.options import FREE, TESTS, OptimiserOptions, Range, RuntimeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    width: Annotated[int, Range(1)] = 4
    """Hidden units."""
    num_tests: Annotated[int, Range(1), TESTS] = 40
    """Items of the test list."""
    test_seeds: Annotated[tuple[int, ...], TESTS] = (0,)
    """A test list is drawn for each."""
    pause_s: Annotated[float, Range(0), FREE] = 0.0
    """Seconds that each prediction takes longer."""
    runtime: RuntimeOptions = RuntimeOptions(epochs=2, global_batch=4, tensorboard=False)
    optimiser: OptimiserOptions = OptimiserOptions(lr=0.05)

    MAY_SKIP_TRAINING: ClassVar[bool] = True
