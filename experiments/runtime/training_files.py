"""Files about a training for people: training.log, metrics.json, model_info.txt. Rank 0 writes.

Each is made whole from the progress of the run, and replaced at once. So a run that was resumed
has each line once, and a reader never sees half of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from experiments.runtime.model_info import ModelInfo
from experiments.runtime.progress import Progress
from merge.storage.atomic import write_bytes
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths

Rate = Callable[[int], float]
"""The learning rate of the first step of an epoch, counted from 0."""

_TRAIN = "train_"


class TrainingFiles:
    """The files of one run; those of ranks other than 0 write nothing."""

    def __init__(self, paths: RunPaths | None, *, epochs: int, rate: Rate) -> None:
        """`paths` is None on a rank that writes nothing."""
        self._paths, self._epochs, self._rate = paths, epochs, rate

    def write_model(self, info: ModelInfo) -> None:
        """Replace model_info.txt."""
        if self._paths is not None:
            write_bytes(self._paths.model_info, info.text().encode())

    def write(self, progress: Progress) -> None:
        """Replace training.log and metrics.json by what `progress` holds."""
        if self._paths is not None:
            text = log_text(progress, epochs=self._epochs, rate=self._rate)
            write_bytes(self._paths.training_log, text.encode())
            write_json(self._paths.metrics, metrics_json(progress, self._rate))


def rate_line(epoch: int, epochs: int, lr: float) -> str:
    """`Epoch 1/16 | Learning Rate: 2.350000e-06`; epochs are counted from 1 here."""
    return f"Epoch {epoch}/{epochs} | Learning Rate: {lr:.6e}"


def epoch_lines(entry: Mapping[str, Any]) -> list[str]:
    """`EPOCH 1 TRAIN - Loss: 0.8090, Accuracy: 0.7500`, and the same for what was tested."""
    epoch = entry["epoch"]
    train = {name[len(_TRAIN) :]: entry[name] for name in entry if name.startswith(_TRAIN)}
    rest = {
        name: value
        for name, value in entry.items()
        if name not in ("epoch", "loss") and not name.startswith(_TRAIN)
    }
    lines = [f"EPOCH {epoch} TRAIN - {_listed({'loss': entry['loss'], **train})}"]
    return lines + ([f"EPOCH {epoch} TEST - {_listed(rest)}"] if rest else [])


def log_text(progress: Progress, *, epochs: int, rate: Rate) -> str:
    """The text log of all epochs that are done."""
    lines: list[str] = []
    for entry in progress.history:
        epoch = int(entry["epoch"])  # type: ignore[arg-type]
        lines += [rate_line(epoch, epochs, rate(epoch - 1)), *epoch_lines(entry)]
    if progress.epoch == epochs and progress.best is not None:
        lines.append(f"Final epoch {epochs}; best epoch {progress.best.epoch}")
    return "".join(f"{line}\n" for line in lines)


def metrics_json(progress: Progress, rate: Rate) -> dict[str, Any]:
    """All epochs with their learning rates, and the evaluations by name."""
    history = [
        {**entry, "learning_rate": rate(int(entry["epoch"]) - 1)}  # type: ignore[arg-type]
        for entry in progress.history
    ]
    named = {name: dict(each.summary()) for name, each in progress.evaluations().items()}
    return {"epochs": history, **named}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{_title(name)}: {value:.4f}" for name, value in values.items())


def _title(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")
