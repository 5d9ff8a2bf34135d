"""What benchmarks/gpu.py measures, part by part; each gives rows of a name, a value and a unit."""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.backbones.constant import ConstantBackbone
from experiments.fewshot.data import open_data
from experiments.fewshot.faster import make_faster
from experiments.fewshot.loading import TrainBatch, collate
from experiments.fewshot.model import build_method
from experiments.fewshot.models.abcb.histogram import (
    _SumsAbove,
    front_histogram,
    unit_vectors,
)
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.abcb.packed import Reach, _fixed, _packed
from experiments.fewshot.models.abcb.sm import QueryCells
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
    """The peak of the device's memory meanwhile, in a list; 0 on the CPU."""
    peak = [0.0]
    if scale.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield peak
    if scale.device == "cuda":
        peak[0] = torch.cuda.max_memory_allocated() / 2**30


# ---------------------------------------------------------------- what is measured


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
    images = torch.randint(0, 256, (2, batch, 3, crop, crop), generator=generator).float()
    masks = torch.zeros(2, batch, crop, crop, dtype=torch.uint8)
    for image in masks.flatten(0, 1):
        height, width = (torch.rand(2, generator=generator) * 0.6 + 0.15).mul(crop).long().tolist()
        image[crop // 8 : crop // 8 + height, crop // 8 : crop // 8 + width] = 1
    on = images.to(scale.device), masks.to(scale.device)
    return TrainBatch(on[0][0], on[0][1][:, None], on[1][1][:, None], on[1][0])


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
            output = self.model(batch.query, batch.support, batch.support_mask)
        segmentation_loss(output, batch.target).backward()
        self._optimizer.step()


def rate(scale: Scale) -> Rows:
    """The device's own rate, which shares are of."""
    side = 256 if scale.is_small else 8192
    a = torch.randn(side, side, device=scale.device).bfloat16()
    a @ a
    value = 2 * side**3 / seconds(scale, lambda: a @ a) / 1e12
    return [("bf16 product, 8192^3", value, "TFLOP/s")]


def equal(scale: Scale) -> Rows:
    """Largest error of each fast path beside its reference, relative to the largest value."""
    return [
        ("error of the histogram kernel", _histogram_error(scale), "of bf16"),
        ("error of its gradient", _histogram_error(scale, of_gradient=True), "of bf16"),
        ("error of packed attention", _attention_error(scale), "of bf16"),
        ("error of its gradients", _attention_error(scale, of_gradient=True), "of bf16"),
        ("error of the constant backbone", _backbone_error(scale), "of bf16"),
    ]


BF16 = 2.0**-8


def _error(ours: list[Tensor], oracle: list[Tensor]) -> float:
    """Largest difference, in roundings of bf16 of the largest value."""
    pairs = zip(ours, oracle, strict=True)
    errors = [(a.double() - b.double()).abs().max() / b.abs().max() for a, b in pairs]
    return max(float(error.detach()) for error in errors) / BF16


def _histogram_error(scale: Scale, *, of_gradient: bool = False) -> float:
    torch.manual_seed(1)
    counts = torch.tensor([300, 0, 1, 177], dtype=torch.int32, device=scale.device)
    values = torch.randn(4, 300, 96, device=scale.device) + 0.3
    is_real = torch.arange(300, device=scale.device) < counts[:, None]
    unit = unit_vectors(values).bfloat16().requires_grad_()
    exact = (unit.detach().double() * is_real[:, :, None]).requires_grad_()
    ours = front_histogram(unit, counts, 16)
    above = _SumsAbove.apply(exact, 16)
    pairs = (counts.double() ** 2)[:, None]
    edges = torch.cat([pairs, above, torch.zeros_like(pairs)], dim=1)
    oracle = -edges.diff(dim=1) / pairs.clamp(min=1)
    if not of_gradient:
        return _error([ours], [oracle])
    weights = torch.randn(4, 16, device=scale.device)
    grads = [
        torch.autograd.grad((x * weights).sum(), y)[0] for x, y in ((ours, unit), (oracle, exact))
    ]
    return _error([grads[0]], [grads[1]])


def _attention_error(scale: Scale, *, of_gradient: bool = False) -> float:
    torch.manual_seed(2)
    lengths = torch.tensor([[5, 300, 0, 90], [0, 300, 10, 10], [40, 41, 0, 400]])
    reach = Reach(*lengths.to(torch.int32).to(scale.device).T)
    parts = [torch.randn(3, n, 4, 64, device=scale.device) for n in (300, 400, 400)]
    bias = torch.randn(3, 400, device=scale.device)
    half = [part.bfloat16().requires_grad_() for part in parts]
    exact = [part.detach().double().requires_grad_() for part in half]
    # Flash attention is on GPUs alone.
    ours = (_packed if scale.device == "cuda" else _fixed)(half, reach, bias.bfloat16())
    oracle = _fixed([x.cpu() for x in exact], _on_cpu(reach), bias.bfloat16().double().cpu())
    if not of_gradient:
        return _error([ours.cpu()], [oracle])
    weights = torch.randn(oracle.shape, dtype=torch.float64)
    mine = torch.autograd.grad((ours.cpu().double() * weights).sum(), half)
    theirs = torch.autograd.grad((oracle * weights).sum(), exact)
    return _error(list(mine), list(theirs))


def _on_cpu(reach: Reach) -> Reach:
    return Reach(reach.q_start.cpu(), reach.q_stop.cpu(), reach.k_start.cpu(), reach.k_stop.cpu())


def _backbone_error(scale: Scale) -> float:
    model = build_method(new_options(scale), weight_file(scale)).to(scale.device)
    images = torch.rand(2, 3, 65, 65, device=scale.device) * 255
    constant = ConstantBackbone(model.backbone, torch.bfloat16)
    return _error(list(constant(images)), list(model.backbone(images)))


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
    from torch.utils.flop_counter import FlopCounterMode

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
            rows.append((seconds(scale, head, 3 if head is dense_head else 0), peak[0]))
    (time_ours, peak_ours), (time_dense, peak_dense) = rows
    name = f"head, batch {batch}, 23%"
    return [
        (name, time_ours * 1e3, "ms"),
        (f"{name}, dense transcription", time_dense * 1e3, "ms"),
        (f"{name}, speed-up", time_dense / time_ours, "x"),
        (f"{name}, less memory", peak_dense / max(peak_ours, 1e-9), "x"),
    ]


def _heads(scale: Scale, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    from abcb_dense import dense_predictions

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
        for b in range(batch):
            cells_of = QueryCells(f_q[b : b + 1], colour[b : b + 1], colour[b : b + 1] / 128 - 1)
            with precision.autocast():
                given = f_s[b][is_foreground], cells_of, is_foreground
                predictions, hats = dense_predictions(model, *given)
            losses = [x.float().square().sum() for x in (*predictions, *hats)]
            torch.stack(losses).sum().backward()

    return ours, dense_head


def loader(scale: Scale) -> Rows:
    """Training episodes a second that the loader processes bring, once they run."""
    options = _data_options(scale)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(scale.data_root) if scale.data_root else None
        context: Any = type("Places", (), {"data_root": root, "cache_dir": Path(folder)})
        data = open_data(options, context)
        episodes = torch.utils.data.DataLoader(
            data.train_dataset(0, (127.0, 127.0, 127.0)),
            batch_size=scale.batch(16),
            num_workers=scale.workers,
            collate_fn=collate,
        )
        batches = iter(episodes)
        next(batches)
        began, count = time.perf_counter(), 0
        for batch in batches:
            count += len(batch.query)
        value = count / (time.perf_counter() - began)
    return [(f"loader, {scale.workers} workers", value, "episodes/s")]


def _data_options(scale: Scale) -> Options:
    return new_options(scale, **_run_settings(scale))


def _run_settings(scale: Scale) -> dict[str, Any]:
    episodes = 4 if scale.is_small else 640
    return {
        "dataset": "coco20i" if scale.data_root else "shapes5i",
        "fold": 0,
        "image_size": scale.crop(473),
        "global_batch": scale.batch(16),
        "episodes_per_epoch": episodes,
        "test_episodes": 11 if scale.is_small else 200,
    }


def run(scale: Scale) -> Rows:
    """`replicate run` for three epochs: seconds a step in the last two, and an episode's test."""
    with tempfile.TemporaryDirectory(prefix="papergrid-gpu-run-") as folder:
        events = _replicate(scale, Path(folder))
    steps = _run_settings(scale)["episodes_per_epoch"] / scale.batch(16)
    ends = [event["time"] for event in events if event["event"] == "epoch"]
    starts = [event["time"] for event in events if event["event"] == "checkpoint"]
    tests = [event["seconds"] for event in events if event["event"] == "eval"]
    # The first epoch compiles and starts the loader processes.
    later = [end - max(s for s in starts if s <= end) for end in ends[1:]]
    return [
        ("`replicate run`, a step, batch 16, crop 473", min(later) / steps * 1e3, "ms"),
        ("evaluation, an episode", tests[-1] / _run_settings(scale)["test_episodes"] * 1e3, "ms"),
    ]


def _replicate(scale: Scale, folder: Path) -> list[dict[str, Any]]:
    settings = {
        **_run_settings(scale),
        "method": "abcb",
        "backbone": scale.backbone,
        "epochs": 3,
        "eval_every": 3,
        "num_panels": 0,
        "abcb_initialisation": "random",
        **({"abcb_channels": 32, "abcb_num_heads": 2} if scale.is_small else {}),
    }
    fixed = {name: value for name, value in settings.items() if name != "fold"}
    workers = 0 if scale.is_small else scale.workers
    study = {
        "name": "gpu",
        "experiment": "fewshot",
        "axes": {"fold": [0]},
        "metric": "miou",
        "cell": "gpu",
        "run_path": "gpu/fold{fold}",
        "fixed": fixed,
        "resources": {"device": scale.device, "devices_per_run": 1, "num_workers": workers},
    }
    (folder / "gpu.yaml").write_text(json.dumps(study))
    words = ["run", "--study", str(folder / "gpu.yaml"), "--output", str(folder / "out")]
    words += ["--weights", str(weight_file(scale))]
    words += ["--devices", "cpu:1" if scale.device == "cpu" else "0"]
    words += ["--data-root", scale.data_root] if scale.data_root else []
    command = [str(Path(sys.executable).parent / "replicate"), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    found = sorted(folder.glob("out/gpu/fold0/attempts/*/events.jsonl"))
    if done.returncode or not found:
        raise RuntimeError(f"replicate run: exit code {done.returncode}: {done.stderr[-600:]}")
    return [json.loads(line) for line in found[-1].read_text().splitlines()]


def ranks(scale: Scale) -> Rows:
    """Efficiency of data parallel training over all GPUs: one GPU's step over theirs."""
    count = torch.cuda.device_count() if scale.device == "cuda" else 2
    if count < 2:
        return []
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", str(ROOT / "benchmarks" / "gpu.py")]
    command += ["--device", scale.device, "--child", "rank", *(["--small"] * scale.is_small)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"torchrun: exit code {done.returncode}: {done.stderr[-600:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    single, together = lines[0]["rows"][0][1], lines[0]["rows"][1][1]
    return [(f"efficiency of {count} ranks, batch 16 each", single / together * 100, "%")]


def rank(scale: Scale) -> Rows:
    """One rank of `ranks`: its step alone, then with gradients averaged; rank 0 alone reports."""
    from experiments.runtime.data_parallel import data_parallel
    from experiments.runtime.distributed import process_group

    with process_group("cuda" if scale.device == "cuda" else "cpu") as place:
        model = new_model(scale)
        frozen = {f"backbone.{name}" for name in model.backbone.state_dict()}
        batch, crop = scale.batch(16), scale.crop(473)
        times = []
        for each in (model, data_parallel(model, place, unsynchronised=frozen)):
            stepper = Stepper(scale, each, batch, crop)
            for _ in range(3):
                stepper()
            times.append(seconds(scale, stepper) * 1e3)
    return [("step alone", times[0], "ms"), ("step together", times[1], "ms")] * place.is_main


PARTS: dict[str, Callable[[Scale], Rows]] = {
    "rate": rate,
    "equal": equal,
    "step 16 473": functools.partial(step, batch=16, crop=473),
    "alone": alone,
    "dense 16": functools.partial(dense, batch=16),
    "run": run,
    "work": work,
    "loader": loader,
    "ranks": ranks,
    "step 4 473": functools.partial(step, batch=4, crop=473),
    "step 16 641": functools.partial(step, batch=16, crop=641),
    "step 4 641": functools.partial(step, batch=4, crop=641),
    "dense 4": functools.partial(dense, batch=4),
}
"""In the order in which they are measured: the last ones are left out where time is short."""
