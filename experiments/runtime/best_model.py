"""The best model so far. last.pt carries it and names it by its digest; best.pt is a copy of it.

So the choice of the best epoch and its model are one file, replaced at once: where best.pt is
absent, damaged, or of an epoch that this run has not reached (a kill between the two files, a copy
in a bucket, a second process), it is made again from last.pt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from experiments.runtime.progress import Evaluation
from merge.storage.json_files import canonical_json

State = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class BestModel:
    """A trained model with the evaluation that measured it."""

    evaluation: Evaluation
    model: State
    """What is trained of the model's state, on the CPU."""
    digest: str
    """SHA-256 of both."""

    @classmethod
    def of(cls, evaluation: Evaluation, model: State) -> Self:
        """A copy of `model`, which may go on training."""
        kept = {name: _copied(value) for name, value in model.items()}
        return cls(evaluation, kept, _digest(evaluation, kept))

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The one in best.pt, with the digest of what is there."""
        evaluation, model = Evaluation.from_state(state["evaluation"]), state["model"]
        return cls(evaluation, model, _digest(evaluation, model))

    def to_state(self) -> dict[str, Any]:
        """Plain values and tensors, as best.pt holds them."""
        return {"evaluation": self.evaluation.to_state(), **self.to_record()}

    def to_record(self) -> dict[str, Any]:
        """The same without the evaluation, which last.pt holds as part of the progress."""
        return {"model": dict(self.model), "sha256": self.digest}

    def measured(self, evaluation: Evaluation) -> bool:
        """Whether `evaluation` is that of this model."""
        return self.evaluation.summary() == evaluation.summary()


def _copied(value: object) -> object:
    return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value


def _digest(evaluation: Evaluation, model: State) -> str:
    sha = hashlib.sha256(canonical_json(evaluation.summary()))
    for name, value in sorted(model.items()):
        for part in _content(name, value):
            sha.update(part)
    return sha.hexdigest()


def _content(name: str, value: object) -> Iterable[Any]:
    if not isinstance(value, torch.Tensor):
        return (f"{name} {value!r}\n".encode(),)
    head = f"{name} {value.dtype} {list(value.shape)}\n".encode()
    return head, value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
