"""How much faster two devices train than one, at a fixed batch a device.

    python benchmarks/two_devices.py [--device cpu|cuda] [--per-device-batch N] [--set KEY=VALUE]

Trains the experiment `camouflage` on its generated set twice, with one rank and with two, each rank
with the same batch: the global batch of two is twice as large, and an epoch has half of the steps.
The ratio is that of images a second in the epochs between the first one, which warms caches up, and
the last.
Exits 1 where two devices are slower than one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_NUM_EPOCHS = 5
_SMALL: dict[str, Any] = {
    "dataset": "tiny_cod10k",
    "backbone": "efficientnet_lite0",
    "image_size": 96,
    "channels": 16,
    "decoder_epochs": 0,
    "epochs": _NUM_EPOCHS,
    "images_per_epoch": 32,
    "test_images": 2,
    "best_on": "test",
    "ema_decay": 0.0,
    "eval_every": _NUM_EPOCHS,
    "tensorboard": False,
}
_CUDA: dict[str, Any] = {"backbone": "edgenext_base", "from_scratch": True, "image_size": 352}

Events = Sequence[Mapping[str, Any]]
Train = Callable[[Mapping[str, Any], int], Events]


def main(argv: Sequence[str] | None = None) -> int:
    """Print images a second of one and two devices, and their ratio."""
    arguments = _parse(argv)
    base = {**_SMALL, **(_CUDA if arguments.device == "cuda" else {}), **dict(arguments.set)}
    with tempfile.TemporaryDirectory() as folder:
        ratio = measure(base, arguments.per_device_batch, _trainer(Path(folder), arguments.device))
    return int(ratio < 1)


def measure(base: Mapping[str, Any], per_device_batch: int, train: Train) -> float:
    """Images a second of two devices over those of one; prints a line for each."""
    rates: dict[int, float] = {}
    for num_devices in (1, 2):
        batch = per_device_batch * num_devices
        rates[num_devices] = images_a_second(train({**base, "global_batch": batch}, num_devices))
        print(
            f"{num_devices} x {per_device_batch} images a step, global batch {batch}: "
            f"{rates[num_devices]:.1f} images/s"
        )
    ratio = rates[2] / rates[1]
    print(f"speed-up of two devices at {per_device_batch} images a device: {ratio:.2f}")
    return ratio


def images_a_second(events: Events) -> float:
    """The rate between the ends of the first epoch and of the last but one.

    An epoch that is evaluated ends after its evaluation, and the last one always is.
    """
    (begun,) = (event for event in events if event["event"] == "start")
    ends = [event["time"] for event in events if event["event"] == "epoch"]
    images = begun["global_batch"] * begun["steps_per_epoch"] * (len(ends) - 2)
    return float(images / (ends[-2] - ends[0]))


def _trainer(folder: Path, device: str) -> Train:
    def train(config: Mapping[str, Any], num_devices: int) -> Events:
        run = folder / f"{num_devices}"
        attempt = run / "attempts" / "0001"
        attempt.mkdir(parents=True)
        spec = {"schema": 1, "run_id": "benchmark", "config": config, "config_hash": "benchmark"}
        (run / "run.json").write_text(json.dumps(spec))
        places = {"RUN_DIR": run, "RUN_SPEC": run / "run.json", "ATTEMPT_DIR": attempt}
        variables = {**places, "DEVICE": device, "CACHE_DIR": folder / "cache"}
        environment = {f"PAPERGRID_{name}": str(value) for name, value in variables.items()}
        words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_devices}"]
        subprocess.run(
            [sys.executable, *words, "-m", "experiments.runtime", "camouflage"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
            check=True,
        )
        lines = (attempt / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    return train


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--per-device-batch", type=int, default=8)
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args(argv)


def _setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


if __name__ == "__main__":
    sys.exit(main())
