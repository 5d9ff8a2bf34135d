"""Parts of benchmarks/gpu.py that start processes: loaders, `replicate run`, ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gpu_models import ROOT, Rows, Scale, Stepper, new_model, new_options, seconds, weight_file

from experiments.fewshot.data import open_data
from experiments.fewshot.loading import collate
from experiments.fewshot.options import Options


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
            count += len(batch.target)
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
        "eval_chunk": 2 if scale.is_small else 16,
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
        "average_over": "fold",
        "metric": "miou",
        "cell": "gpu",
        "run_path": "gpu/fold{fold}",
        "fixed": fixed,
        "resources": {"device": scale.device, "devices_per_run": 1, "num_workers": workers},
    }
    (folder / "gpu.yaml").write_text(json.dumps(study))
    words = ["run", "--study", str(folder / "gpu.yaml"), "--output-dir", str(folder / "out")]
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
