"""Loaders whose processes fail at once, and with their own sentence.

torch sends a batch from a thread of the loader process. What that thread cannot send (no room in
/dev/shm, an object that cannot be pickled) it drops, and the training waits for the batch for ever.
Here all of a batch is put into shared memory before it is handed to that thread. An error of the
data comes back as it was raised, not wrapped into `Caught DataError in DataLoader worker process`.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

import torch
from torch.utils.data import DataLoader, default_convert, get_worker_info

from experiments.runtime.task import Dataset

Collate = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderSettings:
    """How batches are loaded; no number depends on it."""

    num_workers: int
    """Loader processes; 0 loads in the training's own process."""
    timeout_s: float
    """Longest wait for a batch; 0 has no limit."""
    pin_memory: bool = False


def load_items(
    data: Dataset, places: Sequence[int], generator: torch.Generator, settings: LoaderSettings
) -> Iterator[Any]:
    """Single items, in the order of `places`. Raises what the data raises, in any process."""
    loader = make_loader(
        data, default_convert, settings, generator, batch_size=None, sampler=places
    )
    yield from received(loader)


def make_loader(
    data: Dataset,
    collate: Collate,
    settings: LoaderSettings,
    generator: torch.Generator,
    *,
    is_lasting: bool = False,
    **which: Iterable[list[Any]] | Sequence[int] | None,
) -> DataLoader[Any]:
    """A loader whose failures `received` raises; `is_lasting` keeps its processes over epochs."""
    is_elsewhere = settings.num_workers > 0
    return DataLoader(
        _Guarded(data) if is_elsewhere else data,  # type: ignore[arg-type]
        collate_fn=_Deliver(collate) if is_elsewhere else collate,
        num_workers=settings.num_workers,
        timeout=settings.timeout_s if is_elsewhere else 0,
        pin_memory=settings.pin_memory,
        generator=generator,
        persistent_workers=is_lasting and is_elsewhere,
        # Later Pythons start processes otherwise: the data would have to be pickled, and what
        # processes share would not be shared.
        multiprocessing_context="fork" if is_elsewhere else None,
        **which,  # type: ignore[arg-type]
    )


def received(loader: DataLoader[Any]) -> Iterator[Any]:
    """One pass over a loader. Raises what the data raises, in any process."""
    for batch in loader:
        if isinstance(batch, _Failure):
            raise batch.error
        yield batch


@dataclass(frozen=True, slots=True)
class _Failure:
    """Stands for what could not be loaded."""

    error: Exception

    @classmethod
    def of(cls, error: Exception) -> Self:
        """`error` with its traceback as a note; in other words where it cannot be sent."""
        try:
            sent = pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001 - whatever the class of a person's own error raises
            sent = RuntimeError(f"{type(error).__name__}: {error}")
        worker = get_worker_info()
        place = f"in loader process {worker.id}" if worker else "in the training's process"
        sent.add_note(f"{place}:\n{''.join(traceback.format_exception(error))}")
        return cls(sent)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A data set in a loader process: an item that cannot be read is a failure, not an error."""

    data: Dataset

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401
        try:
            return self.data[index]
        except Exception as error:  # noqa: BLE001 - raised again by who receives it
            return _Failure.of(error)


@dataclass(frozen=True, slots=True)
class _Deliver:
    """Collates in a loader process, and makes sure that the result can be sent."""

    collate: Collate

    def __call__(self, items: Any) -> Any:  # noqa: ANN401
        each = items if isinstance(items, list) else [items]
        if failed := next((item for item in each if isinstance(item, _Failure)), None):
            return failed
        try:
            batch = self.collate(items)
            # Large arrays are passed by: a callback that returns None keeps them out of the text.
            _Sharer(io.BytesIO(), 5, True, lambda _buffer: None).dump(batch)
        except Exception as error:  # noqa: BLE001 - raised again by who receives it
            return _Failure.of(error)
        return batch


class _Sharer(ForkingPickler):
    """Moves each tensor that it meets into shared memory; the text that it writes is dropped."""

    def persistent_id(self, found: object) -> str | None:
        """Tensors are not written: only what is around them is tried."""
        if type(found) is torch.Tensor and found.layout is torch.strided and not found.is_cuda:
            found.share_memory_()  # type: ignore[no-untyped-call]
            return "tensor"
        return None
