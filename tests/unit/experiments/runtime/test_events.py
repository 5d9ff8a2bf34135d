"""Events and TensorBoard scalars."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from experiments.runtime.distributed import Ranks
from experiments.runtime.environment import describe_environment
from experiments.runtime.events import EventLog, ScalarLog
from merge.errors import StorageError


def test_each_event_is_one_json_line_as_soon_as_it_is_emitted(tmp_path):
    path = tmp_path / "attempts" / "0001" / "events.jsonl"
    log = EventLog(path)
    log.emit("start", epochs=2)
    log.emit("step", loss=0.5, note="naïve\n")
    first, second = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    log.close()
    assert (first["event"], first["epochs"]) == ("start", 2)
    assert (second["event"], second["note"]) == ("step", "naïve\n")
    assert first["time"] <= second["time"]
    assert 0 <= first["elapsed_s"] <= second["elapsed_s"] < 60


def test_a_log_without_a_path_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    EventLog(None).emit("start")
    ScalarLog(None, first_step=0).add("loss", 1.0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_storage_error():
    log = EventLog(Path("/dev/full"))
    with pytest.raises(StorageError, match="the disk is full"):
        log.emit("start")
    log.close()


def test_a_resumed_run_hides_the_points_it_writes_again(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first_step, steps in ((0, range(5)), (3, range(3, 6))):
        log = ScalarLog(tmp_path, first_step=first_step)
        for step in steps:
            log.add("loss", float(step + first_step), step)
        log.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert [(point.step, point.value) for point in reader.Scalars("loss")] == [
        (0, 0.0),
        (1, 1.0),
        (2, 2.0),
        (3, 6.0),
        (4, 7.0),
        (5, 8.0),
    ]


def test_the_environment_names_versions_and_machine():
    described = describe_environment(Ranks(0, 0, 1, torch.device("cpu")))
    assert json.loads(json.dumps(described)) == described
    assert described["packages"]["torch"] == metadata.version("torch")
    assert described["python"] == sys.version.split()[0]
    assert described["world_size"] == 1
