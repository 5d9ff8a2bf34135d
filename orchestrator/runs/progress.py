"""How far a trainer is: the last lines of its events.jsonl, read from the end of the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from merge.storage.disk import open_at_once
from merge.storage.json_files import is_finite_number

_TAIL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The newest values of a trainer's events."""

    event: str
    """Kind of the newest event."""
    time: float
    """Its Unix time, in seconds."""
    epoch: int | None = None
    step: int | None = None
    loss: float | None = None
    elapsed_s: float | None = None
    """Since the trainer began, by a clock that is never set; None where it does not report it."""


def read_progress(events: Path) -> Progress | None:
    """The progress in the file `events`; None where it has no whole event yet."""
    newest: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for event in _backwards(events):
        newest = newest or event
        for key in ("epoch", "step", "loss"):
            if is_finite_number(event.get(key)):
                numbers.setdefault(key, event[key])
        if len(numbers) == 3:
            break
    if not newest:
        return None
    epoch, step, loss = numbers.get("epoch"), numbers.get("step"), numbers.get("loss")
    return Progress(
        event=str(newest.get("event", "")),
        time=float(newest["time"]),
        epoch=None if epoch is None else int(epoch),
        step=None if step is None else int(step),
        loss=None if loss is None else float(loss),
        elapsed_s=_seconds(newest.get("elapsed_s")),
    )


def _seconds(value: object) -> float | None:
    return float(cast(float, value)) if is_finite_number(value) else None


def stopped_by_itself(events: Path) -> bool:
    """Whether the trainer's last event is that it wrote a checkpoint and stopped as asked."""
    progress = read_progress(events)
    return progress is not None and progress.event == "stopped"


def read_tail(path: Path, num_bytes: int = _TAIL_BYTES) -> bytes:
    """The last `num_bytes` of a file; empty where there is none that can be read now."""
    try:
        with open_at_once(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - num_bytes))
            return file.read()
    except OSError:
        # A folder of this name, or a file server that is away for a moment, must not end
        # other runs.
        return b""


def _backwards(events: Path) -> Iterator[dict[str, Any]]:
    """The whole events in the file's tail, the newest first."""
    # What follows the last newline is still being written; the tail's first line may be cut.
    for line in reversed(read_tail(events).split(b"\n")[:-1]):
        try:
            event = json.loads(line)
        # RecursionError: a line of a thousand brackets is no event, and no end of the sweep.
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and is_finite_number(event.get("time")):
            yield event
