"""The batches of a training: loader processes that live on from one epoch to the next.

A process that starts anew in every epoch costs seconds and forgets what it has read. Here a batch
of indices names its epoch too, and each process makes the data of an epoch when it first needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, get_worker_info

from experiments.runtime.batches import Batch
from experiments.runtime.loaders import Collate, LoaderSettings, make_loader, received
from experiments.runtime.samplers import TrainSampler
from experiments.runtime.seeds import seed_everything, torch_generator
from experiments.runtime.task import Dataset, Item

Place = tuple[int, int]
"""An epoch, and the index of an item in it."""


class TrainLoader:
    """Batches of this rank in the sampler's order; raises what the data raises, in any process."""

    def __init__(
        self,
        data_of: Callable[[int], Dataset],
        collate: Collate,
        sampler: TrainSampler,
        seeds: tuple[int, int],
        settings: LoaderSettings,
    ) -> None:
        """`data_of` makes the items of an epoch; `seeds` are those of the run and of this rank.

        What `data_of` reads elsewhere must not change: loader processes have a copy of it.
        """
        self._sampler, self._seeds = sampler, seeds
        self._make = partial(make_loader, _Epochs(data_of, seeds), collate, settings)
        self._loader: DataLoader[Batch] | None = None

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches that the sampler lists for `epoch`, which it was set to before."""
        if self._loader is None:
            # A loader draws a seed for its processes. From the global generator, a run that goes
            # on would draw it once more, and all dropout after it would differ.
            generator = torch_generator(self._seeds[0], "loader", self._seeds[1], epoch)
            places = _Places(self._sampler)
            self._loader = self._make(generator, batch_sampler=places, is_lasting=True)
        yield from received(self._loader)

    def close(self) -> None:
        """End the loader processes; those of the next batches see what has changed since."""
        self._loader = None


class _Places:
    """Batches of (epoch, index)."""

    def __init__(self, sampler: TrainSampler) -> None:
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[list[Place]]:
        epoch = self._sampler.epoch
        for batch in self._sampler:
            yield [(epoch, index) for index in batch]


class _Epochs:
    """The items of all epochs, one epoch's data at a time."""

    def __init__(self, data_of: Callable[[int], Dataset], seeds: tuple[int, int]) -> None:
        self._data_of, self._seeds = data_of, seeds
        self._epoch: int | None = None
        self._data: Dataset = ()

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, place: Any, /) -> Item:  # noqa: ANN401 - a `Place`, not a plain index
        epoch, index = place
        if epoch != self._epoch:
            self._data, self._epoch = self._data_of(epoch), epoch
            _seed_process(*self._seeds, epoch)
        return self._data[index]


def _seed_process(seed: int, rank: int, epoch: int) -> None:
    """Seed a loader process for an epoch, as one that starts with it would be.

    Random numbers of a data set should follow from (seed, epoch, index). Those of data that draw
    from a global generator do not, but are at least the same when the epoch is trained again.
    """
    worker = get_worker_info()
    if worker is not None:
        seed_everything(seed, "loader process", rank, worker.id, epoch)
