"""The process group of one run: set-up, clean-up and the few collectives that trainers use.

Tensors on the CPU travel over gloo also where gradients travel over nccl, so that counts, flags
and objects are exchanged without waiting for the GPU. All collectives do nothing in a world of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from merge.errors import UsageError
from merge.records.sweep import DeviceKind

T = TypeVar("T")

_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_MASTER_VARIABLES = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among the processes of one run."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes files."""
        return self.rank == 0


@contextmanager
def process_group(
    device_kind: DeviceKind,
    *,
    timeout_s: float = 1800.0,
    on_error: Callable[[Exception], None] = lambda _error: None,
) -> Iterator[Ranks]:
    """Join the process group that the environment describes; leave it at the end, also on errors.

    Works under torchrun and as a single process with or without rank variables; a world of one
    needs no group and makes none. UsageError: incomplete rank variables, no such device.

    `on_error` is called with an error before the group is left. Leaving ends the other ranks with
    errors of their own, which are consequences of this one and must not be recorded first. After an
    error on CUDA the group is left standing, because nccl's clean-up waits for peers that may be
    gone; the process must end then, as `entry.run_trainer` sees to.
    """
    ranks = read_ranks(os.environ, device_kind)
    if ranks.device.type == "cuda":
        torch.cuda.set_device(ranks.device)
    if ranks.world_size == 1:
        yield ranks
        return
    is_clean = False
    try:
        backend = _BACKENDS[device_kind]
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
        yield ranks
        is_clean = True
    except Exception as error:
        on_error(error)
        raise
    finally:
        if dist.is_initialized() and (is_clean or device_kind == "cpu"):
            dist.destroy_process_group()


def read_ranks(environment: Mapping[str, str], device_kind: DeviceKind) -> Ranks:
    """The rank variables of `environment` with the device that belongs to them.

    UsageError: some variables are missing, are no numbers, or name a device that is not there.
    """
    if not any(name in environment for name in _RANK_VARIABLES):
        return Ranks(0, 0, 1, choose_device(device_kind, 0))
    rank, local_rank, world_size = (_read_number(environment, name) for name in _RANK_VARIABLES)
    if not rank < world_size:
        raise UsageError(f"RANK={rank} is outside WORLD_SIZE={world_size}: start with torchrun")
    missing = [name for name in _MASTER_VARIABLES if not environment.get(name)]
    if world_size > 1 and missing:
        raise UsageError(
            f"WORLD_SIZE={world_size} but {' and '.join(missing)} is not set: start with torchrun"
        )
    return Ranks(rank, local_rank, world_size, choose_device(device_kind, local_rank))


def choose_device(device_kind: DeviceKind, local_rank: int) -> torch.device:
    """The device of one rank; a GPU that is missing is an error, never a quiet CPU run."""
    if device_kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(
            "device is cuda but torch sees no GPU: check the driver, "
            "CUDA_VISIBLE_DEVICES and that torch was installed with CUDA, or choose --device cpu"
        )
    num_devices = torch.cuda.device_count()
    if local_rank >= num_devices:
        raise UsageError(
            f"local rank {local_rank} needs its own GPU but only {num_devices} are visible: "
            "start fewer processes (--devices-per-run) or give the run more devices (--devices)"
        )
    return torch.device("cuda", local_rank)


def use_reproducible_math(device: torch.device, *, is_deterministic: bool = False) -> None:
    """On the CPU let torch compute the same bits every time; on a GPU let it pick fast kernels.

    `is_deterministic` asks for the same bits on a GPU too. Call it before anything is computed.
    """
    if device.type == "cuda" and not is_deterministic:
        # Image sizes are the same in every step, so the search for the fastest kernel pays.
        torch.backends.cudnn.benchmark = True
        return
    # cuBLAS has one deterministic way, and reads the choice with the first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Otherwise every new tensor is filled first, for the sake of code that reads before writing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def all_reduce_sum(values: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """The sum over all ranks of a CPU tensor, elementwise; exact for int64."""
    total = values.clone()
    if ranks.world_size > 1:
        dist.all_reduce(total, op=dist.ReduceOp.SUM)
    return total


def any_rank(flags: tuple[bool, ...], ranks: Ranks) -> tuple[bool, ...]:
    """For each flag whether it is set on at least one rank: the same answer on all ranks."""
    if ranks.world_size == 1:
        return flags
    votes = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return tuple(bool(vote) for vote in votes.tolist())


def broadcast_object(value: T, ranks: Ranks) -> T:
    """Rank 0's value on every rank; the values of other ranks are ignored."""
    if ranks.world_size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_objects(value: T, ranks: Ranks) -> list[T]:
    """The values of all ranks in rank order, on every rank."""
    if ranks.world_size == 1:
        return [value]
    boxes: list[T | None] = [None] * ranks.world_size
    dist.all_gather_object(boxes, value)
    return [box for box in boxes if box is not None]


def barrier(ranks: Ranks) -> None:
    """Wait until every rank is here; the GPUs' queues are not waited for."""
    any_rank((False,), ranks)


def _read_number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal():
        raise UsageError(
            f"{name} is {text!r}, not a number: start with torchrun, or unset RANK, LOCAL_RANK "
            "and WORLD_SIZE for a single process"
        )
    return int(text)
