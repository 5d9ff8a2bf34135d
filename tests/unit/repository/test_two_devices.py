"""benchmarks/two_devices.py compares one and two devices at the same batch a device."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PATH = Path(__file__).parents[3] / "benchmarks" / "two_devices.py"


def load():
    spec = importlib.util.spec_from_file_location("two_devices", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_batch_of_a_device_is_fixed_and_neither_first_nor_last_epoch_counts(capsys):
    asked = []

    def train(config, num_devices):
        asked.append((config["global_batch"], num_devices))
        steps = 32 // config["global_batch"]
        seconds = 4.0 if num_devices == 1 else 2.5
        times = [100.0, *(110.0 + seconds * number for number in range(3)), 999.0]
        start = {"event": "start", "global_batch": config["global_batch"], "steps_per_epoch": steps}
        return [start, *({"event": "epoch", "time": time} for time in times[1:])]

    ratio = load().measure({"epochs": 4}, 8, train)
    assert asked == [(8, 1), (16, 2)]
    assert ratio == 4.0 / 2.5
    assert "8.0 images/s" in capsys.readouterr().out
