"""How far a run is and what it has measured: all of it travels in its checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from experiments.fewshot.episode_counts import EpisodeCounts, bootstrap
from experiments.fewshot.metrics import IoUCounts
from merge.results.statistics import mean, sample_std
from merge.storage.json_files import Json


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation after `epoch` epochs of training; metrics are means over the test seeds."""

    epoch: int
    counts: tuple[IoUCounts, ...]
    """Of the list of each test seed."""
    episodes: tuple[EpisodeCounts, ...] = ()
    """The same by episode; empty before training."""

    @property
    def miou(self) -> float:
        return mean([counts.miou() for counts in self.counts])

    @property
    def fb_iou(self) -> float:
        return mean([counts.fb_iou() for counts in self.counts])

    def summary(self) -> dict[str, int | float]:
        return {"epoch": self.epoch, "miou": self.miou, "fb_iou": self.fb_iou}

    def details(self) -> dict[str, Json]:
        """The summary with each class's IoU and counts; for several test seeds, those of each."""
        summary: dict[str, Json] = {**self.summary()}
        if self.episodes:
            summary["bootstrap"] = bootstrap(self.episodes)
        if len(self.counts) == 1:
            return {**summary, **_details(self.counts[0])}
        each = [
            {"miou": counts.miou(), "fb_iou": counts.fb_iou(), **_details(counts)}
            for counts in self.counts
        ]
        spread = {
            name: sample_std([float(entry[name]) for entry in each]) for name in ("miou", "fb_iou")
        }
        return {**summary, "std": spread, "by_test_seed": each}

    def to_state(self) -> dict[str, Json]:
        return {
            "epoch": self.epoch,
            "counts": [counts.to_json() for counts in self.counts],
            "episodes": [episodes.to_json() for episodes in self.episodes],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        counts = tuple(IoUCounts.from_json(record) for record in state["counts"])
        # Checkpoints of earlier versions have no counts by episode.
        episodes = tuple(EpisodeCounts.from_json(r) for r in state.get("episodes", ()))
        return cls(state["epoch"], counts, episodes)


def _details(counts: IoUCounts) -> dict[str, Any]:
    return {
        "iou_per_class": {str(c): iou for c, iou in counts.per_class().items()},
        "missing_classes": list(counts.missing_classes()),
        "counts": counts.to_json(),
    }


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
