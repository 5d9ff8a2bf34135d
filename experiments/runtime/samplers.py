"""Which items each rank takes, so that numbers do not depend on how many ranks there are."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.runtime.seeds import numpy_generator
from merge.errors import UsageError


def check_epoch(num_items: int, global_batch: int) -> None:
    """UsageError: an epoch of `num_items` has not a single batch."""
    if num_items < global_batch:
        raise UsageError(
            f"an epoch has {num_items} items, fewer than global_batch={global_batch}: "
            "lower global_batch or raise the number of items in an epoch"
        )


class TrainSampler:
    """Batches of item indices for one rank, to be used as a loader's `batch_sampler`.

    Epoch e has one permutation of all items, drawn from the stream (seed, "train order", e).
    Global step s takes its items [s * global_batch, (s + 1) * global_batch), and a rank takes its
    contiguous slice of them: the union over ranks is the same for any world size. Items left
    over at the end of a permutation, fewer than one global batch, are not used in that epoch.
    UsageError: the batch does not divide by the ranks, or there are fewer items than one batch.
    """

    def __init__(
        self, num_items: int, *, global_batch: int, rank: int, world_size: int, seed: int
    ) -> None:
        self.per_device_batch = divide_batch(global_batch, world_size)
        check_epoch(num_items, global_batch)
        self.num_steps = num_items // global_batch
        self._num_items = num_items
        self._global_batch = global_batch
        self._offset = rank * self.per_device_batch
        self._seed = seed
        self._epoch = 0
        self._first_step = 0

    def set_epoch(self, epoch: int, *, first_step: int = 0) -> None:
        """Choose the permutation of `epoch`, and begin at `first_step` of it (after a resume)."""
        self._epoch = epoch
        self._first_step = first_step

    @property
    def epoch(self) -> int:
        """The epoch whose permutation is taken."""
        return self._epoch

    def __len__(self) -> int:
        return max(0, self.num_steps - self._first_step)

    def __iter__(self) -> Iterator[list[int]]:
        # Drawn anew in each epoch, not carried on: a resumed run needs no state of a generator.
        generator = numpy_generator(self._seed, "train order", self._epoch)
        order = generator.permutation(self._num_items)
        for step in range(self._first_step, self.num_steps):
            start = step * self._global_batch + self._offset
            yield order[start : start + self.per_device_batch].tolist()


class EvalSampler:
    """Indices rank, rank + world_size, ...: every item once over all ranks, never padded.

    A rank may have one item fewer than another, and none at all where there are fewer items
    than ranks.
    """

    def __init__(self, num_items: int, *, rank: int, world_size: int) -> None:
        self._indices = range(rank, num_items, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)


def divide_batch(global_batch: int, world_size: int) -> int:
    """per_device_batch, where global_batch = per_device_batch * world_size; else UsageError."""
    if global_batch % world_size:
        raise UsageError(
            f"global_batch={global_batch} cannot be divided over world_size={world_size} "
            "processes: choose a global_batch that is a multiple of the processes per run"
        )
    return global_batch // world_size
