"""A validation split of a training set: drawn by a seed, disjoint from what trains.

The best epoch is then chosen on images that are neither trained nor tested. Never take a range of
sorted files: their order follows classes or cameras.
"""

from __future__ import annotations

from experiments.runtime.seeds import numpy_generator
from merge.errors import UsageError


def split_of(
    num_items: int, validation: float, seed: int, stream: str = "validation split"
) -> tuple[list[int], list[int]]:
    """Indices that train, and those that validate, each in ascending order.

    `validation` below 1 is a share of the items, else their number. UsageError: nothing would be
    left on one side.
    """
    num_validating = round(validation * num_items) if validation < 1 else int(validation)
    if not 0 < num_validating < num_items:
        raise UsageError(
            f"a validation split of {validation:g} out of {num_items} training items leaves "
            f"{num_items - num_validating} to train and {num_validating} to validate: choose "
            "another share or number"
        )
    order = numpy_generator(seed, stream).permutation(num_items)
    validating, training = order[:num_validating], order[num_validating:]
    return sorted(training.tolist()), sorted(validating.tolist())
