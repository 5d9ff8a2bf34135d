"""How far a run is and what it has measured: all of it travels in its checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from experiments.fewshot.metrics import IoUCounts
from merge.files import Json


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation on the test list, after `epoch` epochs of training."""

    epoch: int
    counts: IoUCounts

    @property
    def miou(self) -> float:
        return self.counts.miou()

    @property
    def fb_iou(self) -> float:
        return self.counts.fb_iou()

    def summary(self) -> dict[str, int | float]:
        return {"epoch": self.epoch, "miou": self.miou, "fb_iou": self.fb_iou}

    def details(self) -> dict[str, Json]:
        """The summary with each class's IoU and counts."""
        per_class: dict[str, Json] = {str(c): iou for c, iou in self.counts.per_class().items()}
        return {
            **self.summary(),
            "iou_per_class": per_class,
            "missing_classes": list(self.counts.missing_classes()),
            "counts": self.counts.to_json(),
        }

    def to_state(self) -> dict[str, Json]:
        return {"epoch": self.epoch, "counts": self.counts.to_json()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(state["epoch"], IoUCounts.from_json(state["counts"]))


@dataclass(slots=True)
class Progress:
    """Where training goes on, and the evaluations so far."""

    epoch: int = 0
    """Epochs that are trained and evaluated."""
    step: int = 0
    """Steps done in the epoch that is going on."""
    untrained: Evaluation | None = None
    best: Evaluation | None = None
    """Highest mIoU; the earliest of equal ones."""
    final: Evaluation | None = None
    """The latest."""
    history: list[dict[str, Json]] = field(default_factory=list)
    """Mean loss of each epoch, with miou and fb_iou where it was evaluated."""
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "eval": 0.0})
    """Time spent, over all attempts; what a killed attempt lost is not in it."""

    def record(self, evaluation: Evaluation) -> bool:
        """Take an evaluation after training; whether it is the best so far."""
        self.final = evaluation
        if self.best is not None and evaluation.miou <= self.best.miou:
            return False
        self.best = evaluation
        return True

    def to_state(self) -> dict[str, Any]:
        state = asdict(self)
        for name in _EVALUATIONS:
            evaluation = getattr(self, name)
            state[name] = None if evaluation is None else evaluation.to_state()
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        evaluations = {
            name: None if state[name] is None else Evaluation.from_state(state[name])
            for name in _EVALUATIONS
        }
        return cls(**{**state, **evaluations})


_EVALUATIONS = ("untrained", "best", "final")
