"""The model, batches and steps that benchmarks/gpu.py measures, and how it measures time."""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.fewshot.canvas import whole
from experiments.fewshot.faster import make_faster
from experiments.fewshot.loading import TrainBatch
from experiments.fewshot.model import build_method
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.losses import segmentation_loss
from experiments.fewshot.options import Options
from experiments.runtime.options import build
from experiments.runtime.precision import choose_precision, use_tf32

ROOT = Path(__file__).resolve().parent.parent
Rows = list[tuple[str, float, str]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the measured problem is; the small one runs every line on a CPU in a minute."""

    device: str
    is_small: bool
    data_root: str = ""

    @property
    def backbone(self) -> str:
        return "resnet18" if self.is_small else "resnet50"

    @property
    def repeats(self) -> int:
        return 2 if self.is_small else 20

    @property
    def workers(self) -> int:
        return 1 if self.is_small else min(14, max(1, len(os.sched_getaffinity(0)) - 2))

    def crop(self, crop: int) -> int:
        return 41 if self.is_small else crop

    def batch(self, batch: int) -> int:
        return min(batch, 2) if self.is_small else batch


# ---------------------------------------------------------------- timing


def seconds(scale: Scale, action: Callable[[], object], repeats: int = 0) -> float:
    """Median time of an action, the device's queue emptied before and after each."""
    times = []
    for _ in range(repeats or scale.repeats):
        wait(scale)
        began = time.perf_counter()
        action()
        wait(scale)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def wait(scale: Scale) -> None:
    if scale.device == "cuda":
        torch.cuda.synchronize()


class Calls(TorchDispatchMode):
    """Counts operations that compute: the launches of a CPU, where a view or new memory is none."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        returned = func._schema.returns
        is_view = any(each.alias_info and not each.alias_info.is_write for each in returned)
        self.count += not (is_view or "empty" in func.name())
        return func(*args, **(kwargs or {}))


def launches(scale: Scale, action: Callable[[], object]) -> float:
    """Kernels that the action starts; on the CPU its operations."""
    if scale.device == "cpu":
        with Calls() as calls:
            action()
        return calls.count
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        action()
        wait(scale)
    return sum(1 for event in profiled.events() if event.device_type.name == "CUDA")


@contextmanager
def peak_gb(scale: Scale) -> Iterator[list[float]]:
    """The peak of the device's memory meanwhile, and what of it is new, in a list; 0 on the CPU."""
    peak = [0.0, 0.0]
    before = 0
    if scale.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    yield peak
    if scale.device == "cuda":
        most = torch.cuda.max_memory_allocated()
        peak[:] = [most / 2**30, (most - before) / 2**30]


@functools.cache
def weight_file(scale: Scale) -> Path:
    """A file of random weights for the backbone, so that it is frozen and nothing is downloaded."""
    from torchvision import models

    torch.manual_seed(0)
    path = Path(tempfile.mkdtemp(prefix="papergrid-gpu-")) / "random-weights.pth"
    torch.save(getattr(models, scale.backbone)(weights=None).state_dict(), path)
    return path


def new_options(scale: Scale, **values: Any) -> Options:
    sizes = {"abcb_channels": 32, "abcb_num_heads": 2} if scale.is_small else {}
    given = {"method": "abcb", "backbone": scale.backbone, "abcb_initialisation": "random"}
    return build(Options, {**given, **sizes, **values}, "fewshot")


def new_model(scale: Scale, **values: Any) -> Abcb:
    """The method as a run on this device computes it."""
    torch.manual_seed(0)
    options = new_options(scale, **values)
    device = torch.device(scale.device)
    use_tf32(device, options.runtime.tf32)
    model = build_method(options, weight_file(scale))
    assert isinstance(model, Abcb)
    make_faster(model, options.training, choose_precision(options.runtime.amp, device))
    return model.train()


def new_batch(scale: Scale, batch: int, crop: int, seed: int) -> TrainBatch:
    """Episodes whose objects are of other sizes for every seed."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, batch, 3, crop, crop), generator=generator)
    masks = torch.zeros(2, batch, crop, crop, dtype=torch.uint8)
    for image in masks.flatten(0, 1):
        height, width = (torch.rand(2, generator=generator) * 0.6 + 0.15).mul(crop).long().tolist()
        image[crop // 8 : crop // 8 + height, crop // 8 : crop // 8 + width] = 1
    on = images.to(scale.device), masks.to(scale.device)
    return TrainBatch(whole(on[0][0]), whole(on[0][1][:, None]), on[1][1][:, None], on[1][0])


class Stepper:
    """Training steps of a model, every one with other sizes of its token sets."""

    def __init__(self, scale: Scale, model: nn.Module, batch: int, crop: int) -> None:
        self.model, self._next = model, 0
        self._batches = [new_batch(scale, batch, crop, seed) for seed in range(6)]
        self._precision = choose_precision("auto", torch.device(scale.device))
        trained = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=1e-4)

    def __call__(self) -> None:
        batch = self._batches[self._next % len(self._batches)]
        self._next += 1
        self._optimizer.zero_grad(set_to_none=True)
        with self._precision.autocast():
            fill = self.model.mean_rgb
            output = self.model(
                batch.query.painted(fill), batch.support.painted(fill), batch.support_mask
            )
        segmentation_loss(output, batch.target).backward()
        self._optimizer.step()
