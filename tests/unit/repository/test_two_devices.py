"""benchmarks/two_devices.py compares one and two devices at the same batch a device."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from experiments.camouflage.data.layouts import find_cod10k
from experiments.camouflage.data.pairs import read_pairs

PATH = Path(__file__).parents[3] / "benchmarks" / "two_devices.py"


def load():
    spec = importlib.util.spec_from_file_location("two_devices", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_epoch_has_as_many_images_as_its_steps_need(tmp_path):
    for num_images in (30, 100):
        root = tmp_path / f"{num_images}"
        load().write_images(root, num_images)
        splits = find_cod10k(root).splits
        assert len(read_pairs(splits["train"], "cam")) == num_images
        assert len(read_pairs(splits["test"], "cam")) == 19


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--per-device-batch", "0"], "--per-device-batch is a number from 1"),
        (["--set", "global_batch=8"], "global_batch follows from"),
        (["--set", "epochs=2"], "epochs must be 3 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        load().main(words)
    assert message in capsys.readouterr().err


def test_the_batch_of_a_device_is_fixed_and_neither_first_nor_last_epoch_counts(capsys):
    asked = []

    def train(config, num_devices):
        asked.append((config["global_batch"], num_devices))
        steps = 32 // config["global_batch"]
        seconds = 4.0 if num_devices == 1 else 2.5
        events = [
            {"event": "start", "global_batch": config["global_batch"], "steps_per_epoch": steps}
        ]
        time = 100.0
        for epoch, each in enumerate((50.0, seconds, seconds, 999.0), start=1):
            events.append({"event": "epoch", "epoch": epoch, "time": time + each})
            # A checkpoint takes 3 seconds.
            time += each + 3.0
            events.append({"event": "checkpoint", "epoch": epoch, "step": 0, "time": time})
        return events

    ratio = load().measure({"epochs": 4}, 8, train)
    assert asked == [(8, 1), (16, 2)]
    assert ratio == 4.0 / 2.5
    assert "8.0 images/s" in capsys.readouterr().out
