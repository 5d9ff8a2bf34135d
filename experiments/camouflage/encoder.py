"""A timm model as the encoder: four or so levels of features, of stride 4 and more."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.backbones.weights import (
    RANDOM_WEIGHTS_ID,
    load_in_order,
    load_strictly,
    read_weights,
)
from experiments.camouflage.backbones import PACKAGED, timm_name, weights_of
from merge.errors import DataError, UsageError

_LEAST_STRIDE = 4
_PACKAGED_MEAN_STD = ((127.0,) * 3, (128.0,) * 3)
"""What the packaged weights were trained with."""


class Encoder(nn.Module):
    """Features of RGB images in [0, 255], which it normalises itself.

    Batch norm with pretrained statistics keeps them also while its weights train: the batches of
    this task are too small to replace those of ImageNet, and no number depends on `micro_batch`.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        features: nn.Module,
        indices: tuple[int, ...],
        *,
        mean_std: tuple[tuple[float, ...], tuple[float, ...]],
        weights_id: str,
    ) -> None:
        super().__init__()
        self.features = features
        self.weights_id = weights_id
        info: Any = features.feature_info
        self.channels = tuple(info.channels()[index] for index in indices)
        self._first = indices[0]
        for name, values in zip(("_mean", "_std"), mean_std, strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode; pretrained batch norm stays in eval()."""
        super().train(mode)
        if self.weights_id != RANDOM_WEIGHTS_ID:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, ...]:
        """One B C h w tensor a level, from the finest to the coarsest."""
        levels = self.features((images_B3HW.float() - self._mean) / self._std)
        return tuple(levels[self._first :])


def build_encoder(backbone: str, *, weights: Path | None, from_scratch: bool) -> Encoder:
    """timm's model `backbone` with its ImageNet weights, or `from_scratch` with random ones.

    UsageError: timm has no such model, or it has no levels. DataError: the weight file is absent or
    does not fit.
    """
    if from_scratch and weights is not None:
        raise UsageError("--weights and --from-scratch exclude each other: give one of them")
    _check_name(backbone)
    file = None if from_scratch else read_weights(weights_of(backbone), weights)
    whole, features = _create(backbone, features_only=False), _create(backbone, features_only=True)
    strides = features.feature_info.reduction()
    indices = tuple(i for i, stride in enumerate(strides) if stride >= _LEAST_STRIDE)
    if len(set(strides)) < 3 or len(indices) < 2:
        raise UsageError(
            f"backbone {backbone!r} has levels of the strides {strides}: this decoder needs a "
            "pyramid, such as that of edgenext_base or resnet50"
        )
    if file is not None:
        load = load_in_order if backbone in PACKAGED else load_strictly
        load(whole, file)
        _copy(whole, features)
    mean_std = _PACKAGED_MEAN_STD if backbone in PACKAGED else _mean_std(whole)
    weights_id = file.weights_id if file else RANDOM_WEIGHTS_ID
    return Encoder(features, indices, mean_std=mean_std, weights_id=weights_id)


def _check_name(backbone: str) -> None:
    import timm

    name = timm_name(backbone)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UsageError(
            f"timm has no model {backbone!r}{': nearest are ' + ', '.join(near) if near else ''}"
        )


def _create(backbone: str, *, features_only: bool) -> Any:  # noqa: ANN401
    import timm

    try:
        return timm.create_model(timm_name(backbone), pretrained=False, features_only=features_only)
    except (RuntimeError, NotImplementedError) as error:
        raise UsageError(f"backbone {backbone!r} has no features-only form: {error}") from error


def _copy(whole: nn.Module, features: nn.Module) -> None:
    """Copy the state of a model to its features-only form, which renames `a.b` to `a_b`."""
    state = {name.replace(".", "_"): value for name, value in whole.state_dict().items()}
    wanted = features.state_dict()
    lacking = [name for name in wanted if name.replace(".", "_") not in state]
    if lacking:
        raise DataError(f"timm's features-only form has weights of its own: {', '.join(lacking)}")
    features.load_state_dict({name: state[name.replace(".", "_")] for name in wanted})


def _mean_std(whole: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: ANN401
    config = whole.pretrained_cfg
    mean, std = (tuple(255 * value for value in config[name]) for name in ("mean", "std"))
    return mean, std
