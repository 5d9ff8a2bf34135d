"""How far a training is, in a few words."""

from __future__ import annotations

from typing import Protocol


class TrainerProgress(Protocol):
    """The progress of a trainer; None where it has not reported a value."""

    @property
    def epoch(self) -> int | None: ...
    @property
    def step(self) -> int | None: ...
    @property
    def loss(self) -> float | None: ...


def progress_text(progress: TrainerProgress) -> str:
    """`epoch 3 step 40 loss 0.4120`; unknown values are left out."""
    parts = []
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch}")
    if progress.step is not None:
        parts.append(f"step {progress.step}")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    return " ".join(parts)
