"""DistributedDataParallel as all trainers here use it."""

# No `from __future__ import annotations`: DDP compares the hook's annotations with its own types.

from collections.abc import Container, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

from experiments.runtime.distributed import Ranks


def data_parallel(model: nn.Module, ranks: Ranks, *, unsynchronised: Iterable[str]) -> nn.Module:
    """`model` with gradients averaged over ranks; itself in a world of one.

    `unsynchronised` names parameters and buffers that are equal on all ranks anyway, and stay so:
    those of frozen parts. Set `requires_grad` before, never after.
    """
    if ranks.world_size == 1:
        return model
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        model, list(unsynchronised)
    )
    device_ids = [ranks.device] if ranks.device.type == "cuda" else None
    parallel = DistributedDataParallel(
        model,
        device_ids=device_ids,
        find_unused_parameters=False,
        # Gradients lie in the buckets that travel, instead of in a copy as large as they are.
        gradient_as_bucket_view=True,
    )
    if ranks.device.type == "cpu" and ranks.world_size > 2:
        parallel.register_comm_hook(None, _rank_ordered_mean)
    return parallel


def share_buffers(model: nn.Module, ranks: Ranks, *, unless: Container[str] = ()) -> None:
    """Rank 0's buffers on every rank, as DDP itself has them at the beginning of a step.

    After a step the batch statistics of each rank are those of its own part of the batch. Buffers
    that `unless` names are equal anyway.
    """
    if ranks.world_size > 1:
        for name, buffer in model.named_buffers():
            if name not in unless:
                dist.broadcast(buffer, src=0)


def _rank_ordered_mean(_state: None, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """The mean over ranks, summed in rank order.

    gloo's own sum of three or more depends on where in a bucket a gradient lies, and DDP lays its
    buckets out anew after the first step: a resumed run would differ in the last bit.
    """
    buffer = bucket.buffer()
    parts = [torch.empty_like(buffer) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, buffer)
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(torch.stack(parts).sum(0).div_(len(parts)))
    return done
