"""Batch norm over all ranks: the statistics are those of what all ranks compute at a time.

On CUDA it is torch's SyncBatchNorm (timm converts its own layers with it); that one refuses CPU
tensors, so on a CPU the same is computed here.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collectives
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.runtime.distributed import Ranks


def synchronised(model: nn.Module, ranks: Ranks) -> nn.Module:
    """`model` with batch norm over all ranks; parameters and names stay what they are."""
    if ranks.world_size == 1:
        return model
    if ranks.device.type == "cuda":
        from timm.layers.norm_act import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    return _converted(model)


def _converted(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return _SyncedBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _converted(child))
    return module


class _SyncedBatchNorm(_BatchNorm):
    """A batch norm layer that takes over parameters, statistics and activation of another."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)
        # timm's layers activate what they have normalised.
        self.drop, self.act = (getattr(norm, name, nn.Identity()) for name in ("drop", "act"))

    def _check_input_dim(self, features: Tensor) -> None:
        if features.ndim < 2:
            raise ValueError(f"batch norm needs 2 dimensions or more, not {features.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise features NC..., in training by mean and variance over all ranks."""
        normalised = self._normalised(input) if self.training else super().forward(input)
        activated: Tensor = self.act(self.drop(normalised))
        return activated

    def _normalised(self, features: Tensor) -> Tensor:
        mean, variance, count = _moments(features)
        self._track(mean.detach(), variance.detach(), count)
        normalised = (features - _by_channel(mean, features)) * _by_channel(
            torch.rsqrt(variance + self.eps), features
        )
        if not self.affine:
            return normalised
        return normalised * _by_channel(self.weight, features) + _by_channel(self.bias, features)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = self.momentum
        if factor is None:
            factor = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(variance * count / max(count - 1, 1), factor)


def _moments(features: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance of each channel over all ranks, and over how many values."""
    dims = [dim for dim in range(features.ndim) if dim != 1]
    count = torch.tensor([features.numel() / features.shape[1]], dtype=torch.float64)
    dist.all_reduce(count)
    total = float(count)
    mean = collectives.all_reduce(features.sum(dims)) / total  # type: ignore[no-untyped-call]
    deviations = (features - _by_channel(mean, features)).square().sum(dims)
    return mean, collectives.all_reduce(deviations) / total, total  # type: ignore[no-untyped-call]


def _by_channel(values: Tensor, features: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (features.ndim - 2))
