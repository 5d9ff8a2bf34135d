"""Backbone features of test images, each computed once and kept as far as they fit.

An image is always encoded by itself, with or without a cache: a batch of several could change its
features in the last bit, and then a prediction would depend on what was evaluated before.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from experiments.fewshot.models.base import Features, FewShotModel


class FeatureCache:
    """Features by image name, on the CPU, least recently used ones dropped first."""

    def __init__(self, max_mb: int) -> None:
        self._room = max_mb * 2**20
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self.num_encoded = 0
        """Images that went through a backbone since the cache was made."""

    def begin(self, model: FewShotModel) -> None:
        """Start an evaluation of `model`: features of a backbone that is trained have aged."""
        if not model.backbone.is_frozen:
            while self._kept:
                self._drop_oldest()

    def encode(self, model: FewShotModel, name: str, image_3HW: Tensor) -> Features:
        """The features of one image, levels of 1 C h w on the device of `image_3HW`."""
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
            return tuple(level.to(image_3HW.device) for level in kept)
        features = model.encode(image_3HW[None])
        self.num_encoded += 1
        self._keep(name, features)
        return features

    def _keep(self, name: str, features: Features) -> None:
        size = _num_bytes(features)
        while self._kept and size > self._room:
            self._drop_oldest()
        if size <= self._room:
            self._kept[name] = tuple(level.cpu() for level in features)
            self._room -= size

    def _drop_oldest(self) -> None:
        _, features = self._kept.popitem(last=False)
        self._room += _num_bytes(features)


def stack_shots(shots: list[Features]) -> Features:
    """Features of K images, each levels of 1 C h w, as levels of 1 K C h w."""
    return tuple(torch.stack(levels, dim=1) for levels in zip(*shots, strict=True))


def _num_bytes(features: Features) -> int:
    return sum(level.element_size() * level.nelement() for level in features)
