"""How far a run is and what it has measured: all of it travels in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from experiments.runtime.task import Selection, Sums
from merge.storage.json_files import Json


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One evaluation after `epoch` epochs of training."""

    epoch: int
    metrics: Mapping[str, float]
    states: Mapping[str, Sums]
    """The tally of each list, over all items."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """The metrics of `Task.validation_list`; none where the best epoch is chosen on the rest."""

    @property
    def choosing(self) -> Mapping[str, float]:
        """The metrics by which the best epoch is chosen."""
        return self.validation or self.metrics

    def summary(self) -> dict[str, int | float]:
        """The epoch and the metrics, as in events and history."""
        validation = {f"validation_{name}": value for name, value in self.validation.items()}
        return {"epoch": self.epoch, **self.metrics, **validation}

    def to_state(self) -> dict[str, Any]:
        """Plain values and tensors, as a checkpoint holds them."""
        # A copy: the arrays of a tally may be views that a loader's memory backs.
        states = {name: torch.from_numpy(state.copy()) for name, state in self.states.items()}
        return {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "states": states,
            "validation": dict(self.validation),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `to_state` returned."""
        states = {name: tensor.numpy() for name, tensor in state["states"].items()}
        return cls(state["epoch"], state["metrics"], states, state.get("validation", {}))


@dataclass(slots=True)
class Progress:
    """Where training goes on, and the evaluations so far."""

    epoch: int = 0
    """Epochs that are trained and evaluated."""
    step: int = 0
    """Steps done in the epoch that is going on."""
    untrained: Evaluation | None = None
    best: Evaluation | None = None
    """The best by the task's selection; the earliest of equal ones."""
    final: Evaluation | None = None
    """The latest."""
    history: list[dict[str, Json]] = field(default_factory=list)
    """Mean loss of each epoch, with the metrics where it was evaluated."""
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "eval": 0.0})
    """Time spent, over all attempts; what a killed attempt lost is not in it."""

    world_sizes: list[int] = field(default_factory=list)
    """How many ranks trained, one after the other, where a run was resumed with another number."""

    def begin(self, world_size: int) -> None:
        """Take note of how many ranks train from here on."""
        if self.world_sizes[-1:] != [world_size]:
            self.world_sizes.append(world_size)

    def record(self, evaluation: Evaluation, selection: Selection) -> bool:
        """Take an evaluation after training; whether it is the best so far."""
        self.final = evaluation
        name = selection.metric
        if self.best is not None and not selection.is_better(
            evaluation.choosing[name], self.best.choosing[name]
        ):
            return False
        self.best = evaluation
        return True

    def reported(self, which: str) -> Evaluation:
        """The evaluation whose metrics are the run's result: the best or the final one."""
        evaluation = self.best if which == "best" else self.final
        assert evaluation is not None  # the last epoch is always evaluated
        return evaluation

    def evaluations(self) -> dict[str, Evaluation]:
        """Those that there are, by name."""
        named = {name: getattr(self, name) for name in _EVALUATIONS}
        return {name: evaluation for name, evaluation in named.items() if evaluation is not None}

    def to_state(self) -> dict[str, Any]:
        """Plain values and tensors, as a checkpoint holds them."""
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "history": [dict(entry) for entry in self.history],
            "seconds": dict(self.seconds),
            "world_sizes": list(self.world_sizes),
        }
        for name in _EVALUATIONS:
            evaluation = getattr(self, name)
            state[name] = None if evaluation is None else evaluation.to_state()
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `to_state` returned."""
        evaluations = {
            name: None if state[name] is None else Evaluation.from_state(state[name])
            for name in _EVALUATIONS
        }
        return cls(**{**state, **evaluations})


_EVALUATIONS = ("untrained", "best", "final")
