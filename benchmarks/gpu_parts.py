"""What benchmarks/gpu.py measures, part by part; each gives rows of a name, a value and a unit."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from abcb_dense import dense_predictions
from gpu_equal import equal
from gpu_models import (
    Rows,
    Scale,
    Stepper,
    launches,
    new_model,
    peak_gb,
    seconds,
    wait,
)
from gpu_runs import loader, ranks, run
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.fewshot.models.abcb.histogram import front_histogram, unit_vectors
from experiments.fewshot.models.abcb.sm import QueryCells
from experiments.runtime.precision import choose_precision


def rate(scale: Scale) -> Rows:
    """The device's own rate, which shares are of."""
    side = 256 if scale.is_small else 8192
    a = torch.randn(side, side, device=scale.device).bfloat16()
    a @ a
    value = 2 * side**3 / seconds(scale, lambda: a @ a) / 1e12
    return [("bf16 product, 8192^3", value, "TFLOP/s")]


def step(scale: Scale, batch: int, crop: int) -> Rows:
    """A training step with other sizes every time: time, share of the rate, memory, launches."""
    name = f"step, batch {batch}, crop {crop}"
    model = new_model(scale)
    stepper = Stepper(scale, model, scale.batch(batch), scale.crop(crop))
    began = time.perf_counter()
    for _ in range(3):
        stepper()
    wait(scale)
    first = time.perf_counter() - began
    with peak_gb(scale) as peak:
        value = seconds(scale, stepper)
    began = time.perf_counter()
    for _ in range(scale.repeats):
        stepper()
    queued = (time.perf_counter() - began) / scale.repeats
    wait(scale)
    in_a_row = (time.perf_counter() - began) / scale.repeats
    return [
        (name, value * 1e3, "ms"),
        (f"{name}, without waiting", in_a_row * 1e3, "ms"),
        (f"{name}, the host's part", queued * 1e3, "ms"),
        (f"{name}, peak memory", peak[0], "GiB"),
        (f"{name}, launches", launches(scale, stepper), ""),
        (f"{name}, compiling and first three", first, "s"),
    ]


def work(scale: Scale) -> Rows:
    """Floating point operations of a step, counted where nothing is compiled."""
    batch = scale.batch(16)
    stepper = Stepper(scale, new_model(scale, compile="off"), batch, scale.crop(473))
    stepper()
    with FlopCounterMode(display=False) as counter:
        stepper()
    eager = launches(scale, stepper)
    return [
        ("work of a step, batch 16, crop 473", counter.get_total_flops() / 1e12, "TFLOP"),
        ("launches of a step that is not compiled", eager, ""),
    ]


def alone(scale: Scale) -> Rows:
    """Backbone, neck and one histogram by themselves, batch 16, crop 473."""
    batch, crop = scale.batch(16), scale.crop(473)
    model = new_model(scale)
    images = torch.rand(2 * batch, 3, crop, crop, device=scale.device) * 255
    precision = choose_precision("auto", torch.device(scale.device))
    with torch.no_grad(), precision.autocast():
        model.encode(images)
        encode = seconds(scale, lambda: model.encode(images))
    return [
        ("backbone, 32 images", encode * 1e3, "ms"),
        ("histogram, forward and backward, 23%", _histogram_ms(scale, batch, 0.23), "ms"),
        ("histogram, forward and backward, all", _histogram_ms(scale, batch, 1.0), "ms"),
    ]


def _histogram_ms(scale: Scale, batch: int, share: float) -> float:
    cells = ((scale.crop(473) + 7) // 8) ** 2
    channels = 32 if scale.is_small else 512
    counts = torch.full((batch,), int(share * cells), dtype=torch.int32, device=scale.device)
    unit = unit_vectors(torch.randn(batch, cells, channels, device=scale.device))
    unit = unit.to(torch.float32 if scale.device == "cpu" else torch.bfloat16).requires_grad_()

    def call() -> None:
        front_histogram(unit, counts, 16)[:, 3].sum().backward()

    call()
    return seconds(scale, call) * 1e3


def dense(scale: Scale, batch: int) -> Rows:
    """The head, forward and backward, beside a dense transcription of its equations."""
    ours, dense_head = _heads(scale, batch)
    rows: list[tuple[float, float]] = []
    for head in (ours, dense_head):
        head()
        with peak_gb(scale) as peak:
            rows.append((seconds(scale, head, 3 if head is dense_head else 0), peak[1]))
    (time_ours, peak_ours), (time_dense, peak_dense) = rows
    name = f"head, batch {batch}, 23%"
    return [
        (name, time_ours * 1e3, "ms"),
        (f"{name}, dense transcription", time_dense * 1e3, "ms"),
        (f"{name}, speed-up", time_dense / time_ours, "x"),
        (f"{name}, less memory", peak_dense / max(peak_ours, 1e-9), "x"),
    ]


def _heads(scale: Scale, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    batch, side = scale.batch(batch), (scale.crop(473) + 7) // 8
    model = new_model(scale)
    channels, cells = model.options.channels, side * side
    torch.manual_seed(3)
    is_foreground = (torch.arange(cells) < 0.23 * cells)[torch.randperm(cells)].to(scale.device)
    both = is_foreground.expand(batch, cells)
    model._foreground = lambda _: both  # type: ignore[method-assign]
    precision = choose_precision("auto", torch.device(scale.device))
    f_q, f_s = (
        torch.randn(batch, cells, channels, device=scale.device).to(precision.dtype)
        for _ in range(2)
    )
    f_q.requires_grad_()
    f_s.requires_grad_()
    colour = torch.rand(batch, cells, 3, device=scale.device) * 255

    def ours() -> None:
        with precision.autocast():
            tokens = model._tokens(f_s, both)
            predictions, hats = model._iterate(tokens, QueryCells(f_q, colour, colour / 128 - 1))
        torch.stack([x.float().square().sum() for x in (*predictions, *hats)]).sum().backward()

    def dense_head() -> None:
        losses: list[Tensor] = []
        for b in range(batch):
            cells_of = QueryCells(f_q[b : b + 1], colour[b : b + 1], colour[b : b + 1] / 128 - 1)
            with precision.autocast():
                given = f_s[b][is_foreground], cells_of, is_foreground
                predictions, hats = dense_predictions(model, *given)
            losses += [x.float().square().sum() for x in (*predictions, *hats)]
        torch.stack(losses).sum().backward()

    return ours, dense_head


PARTS: dict[str, Callable[[Scale], Rows]] = {
    "rate": rate,
    "equal": equal,
    "step 16 473": functools.partial(step, batch=16, crop=473),
    "run": run,
    "alone": alone,
    "dense 16": functools.partial(dense, batch=16),
    "step 4 473": functools.partial(step, batch=4, crop=473),
    "step 16 641": functools.partial(step, batch=16, crop=641),
    "ranks": ranks,
    "loader": loader,
    "work": work,
    "step 4 641": functools.partial(step, batch=4, crop=641),
    "dense 4": functools.partial(dense, batch=4),
}
"""In the order in which they are measured: the last ones are left out where time is short."""
