"""Backbone features of test images, each computed once and kept as far as they fit.

Images go through the backbone in batches of one fixed size, the last one filled up. With another
number of images in a batch a library may choose another kernel, and features would differ in the
last bit: what is predicted would depend on what was evaluated before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from experiments.fewshot.models.base import Features, FewShotModel

_CPU_ROOM_MB = 2048


class FeatureCache:
    """Features by image name, where they were computed, least recently used ones dropped first."""

    def __init__(self, max_mb: int = -1, batch_size: int = 1) -> None:
        """`max_mb` bounds their memory; -1 is 2 GiB on a CPU and half of what is free on a GPU."""
        self._max_mb, self._batch_size = max_mb, batch_size
        self._room: int | None = None
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self.num_encoded = 0
        """Images that went through a backbone since the cache was made."""

    def begin(self, model: FewShotModel) -> None:
        """Start an evaluation of `model`: features of a backbone that is trained have aged."""
        if not model.backbone.is_frozen:
            self.clear()

    def make_room(self, device: torch.device) -> None:
        """Leave a GPU's memory to a training step."""
        if device.type == "cuda" and self._kept:
            self.clear()

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self._room = None

    def encode(self, model: FewShotModel, names: Sequence[str], images_N3HW: Tensor) -> Features:
        """The features of images, levels of N C h w on their device."""
        present = {name: self._kept[name] for name in names if name in self._kept}
        for name in present:
            self._kept.move_to_end(name)
        missing = {name: place for place, name in enumerate(names) if name not in present}
        present |= self._encode(model, missing, images_N3HW)
        rows = [present[name] for name in names]
        return tuple(torch.stack(levels) for levels in zip(*rows, strict=True))

    def _encode(
        self, model: FewShotModel, places: Mapping[str, int], images_N3HW: Tensor
    ) -> dict[str, Features]:
        """The features of the images at `places`, levels of C h w each."""
        found: dict[str, Features] = {}
        names = list(places)
        for start in range(0, len(names), self._batch_size):
            part = names[start : start + self._batch_size]
            rows = [places[name] for name in part]
            rows += [rows[-1]] * (self._batch_size - len(rows))
            features = model.encode(images_N3HW[rows])
            for row, name in enumerate(part):
                # A copy of its own: a view would keep the whole batch in memory.
                found[name] = tuple(level[row].clone() for level in features)
                self._keep(name, found[name])
        self.num_encoded += len(names)
        return found

    def _keep(self, name: str, features: Features) -> None:
        size = _num_bytes(features)
        if self._room is None:
            self._room = self._bytes_for(features[0].device)
        while self._kept and size > self._room:
            self._drop_oldest()
        if size <= self._room:
            self._kept[name] = features
            self._room -= size

    def _bytes_for(self, device: torch.device) -> int:
        if self._max_mb >= 0:
            return self._max_mb * 2**20
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            return free // 2
        return _CPU_ROOM_MB * 2**20

    def _drop_oldest(self) -> None:
        _, features = self._kept.popitem(last=False)
        assert self._room is not None  # something was kept
        self._room += _num_bytes(features)


def _num_bytes(features: Features) -> int:
    return sum(level.element_size() * level.nelement() for level in features)
