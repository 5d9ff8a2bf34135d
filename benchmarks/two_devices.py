"""How much faster two devices train than one, at a fixed batch a device.

    python benchmarks/two_devices.py [--device cpu|cuda] [--per-device-batch N] [--num-workers N]

Trains the experiment `camouflage` on generated images twice, with one rank and with two, each rank
with the same batch: the global batch of two is twice as large, and an epoch has half of the steps.
The ratio is that of images a second in the epochs between the first one, which warms caches up, and
the last. Checkpoints are not in it: they take the same time for any number of devices.
Exits 1 where two devices are slower than one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.datasets.tiny_cod10k import ensure_tiny_cod10k

ROOT = Path(__file__).resolve().parent.parent
_NUM_EPOCHS = 5
_NUM_STEPS = {"cpu": 4, "cuda": 48}
"""Steps of an epoch with one device."""
_SMALL: dict[str, Any] = {
    "dataset": "cod10k",
    "backbone": "efficientnet_lite0",
    "image_size": 96,
    "channels": 16,
    "decoder_epochs": 0,
    "epochs": _NUM_EPOCHS,
    "test_images": 2,
    "best_on": "test",
    "ema_decay": 0.0,
    "eval_every": _NUM_EPOCHS,
    "tensorboard": False,
}
_CUDA: dict[str, Any] = {
    "backbone": "edgenext_base",
    "from_scratch": True,
    "image_size": 352,
    "channels": 64,
}

Events = Sequence[Mapping[str, Any]]
Train = Callable[[Mapping[str, Any], int], Events]


def main(argv: Sequence[str] | None = None) -> int:
    """Print images a second of one and two devices, and their ratio."""
    arguments = _parse(argv)
    base = {**_SMALL, **(_CUDA if arguments.device == "cuda" else {}), **dict(arguments.set)}
    batch = arguments.per_device_batch
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "data", batch * _NUM_STEPS[arguments.device])
        ratio = measure(base, batch, _trainer(Path(folder), arguments))
    return int(ratio < 1)


def write_images(root: Path, num_images: int) -> None:
    """The generated set with as many training images, in the layout of COD10K-v3."""
    tiny = ensure_tiny_cod10k(root.parent / "cache")
    shutil.copytree(tiny, root)
    for folder in ("Image", "GT_Object"):
        drawn = sorted((tiny / "Train" / folder).glob("*-CAM-*"))
        for number in range(len(drawn), num_images):
            source = drawn[number % len(drawn)]
            target = root / "Train" / folder / f"{source.stem}-{number}{source.suffix}"
            target.hardlink_to(source)
        for source in drawn[num_images:]:
            (root / "Train" / folder / source.name).unlink()


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
    """The rate of the epochs without the first and the last one, each from the checkpoint before.

    An epoch that is evaluated ends after its evaluation, and the last one always is.
    """
    (begun,) = (event for event in events if event["event"] == "start")
    ends = [event["time"] for event in events if event["event"] == "epoch"]
    saved = [
        event["time"] for event in events if event["event"] == "checkpoint" and not event["step"]
    ]
    seconds = [end - start for start, end in zip(saved, ends[1:-1], strict=False)]
    return float(begun["global_batch"] * begun["steps_per_epoch"] * len(seconds) / sum(seconds))


def _trainer(folder: Path, arguments: argparse.Namespace) -> Train:
    def train(config: Mapping[str, Any], num_devices: int) -> Events:
        run = folder / f"{num_devices}"
        attempt = run / "attempts" / "0001"
        attempt.mkdir(parents=True)
        spec = {"schema": 1, "run_id": "benchmark", "config": config, "config_hash": "benchmark"}
        (run / "run.json").write_text(json.dumps(spec))
        places = {"RUN_DIR": run, "RUN_SPEC": run / "run.json", "ATTEMPT_DIR": attempt}
        settings = {"DEVICE": arguments.device, "NUM_WORKERS": arguments.num_workers}
        variables = {**places, **settings, "DATA_ROOT": folder / "data", "CACHE_DIR": folder}
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
    parser.add_argument("--num-workers", type=int, default=0, help="loader processes a device")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args(argv)
    settings = dict(arguments.set)
    if arguments.per_device_batch < 1:
        parser.error("--per-device-batch is a number from 1")
    if "global_batch" in settings:
        parser.error("global_batch follows from --per-device-batch")
    if settings.get("epochs", _NUM_EPOCHS) < 3:
        parser.error("epochs must be 3 or more: the first and the last one do not count")
    return arguments


def _setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


if __name__ == "__main__":
    sys.exit(main())
