"""The model that a run evaluates without training: from a checkpoint, or as it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch

from experiments.runtime.checkpoint import decode_checkpoint
from experiments.runtime.distributed import broadcast_object
from experiments.runtime.entry import NonFiniteError
from experiments.runtime.guard import magnitude
from experiments.runtime.learner import load_trained_state
from experiments.runtime.opening import OpenRun
from experiments.runtime.options import flat, leaves
from merge.errors import DataError, RecordError, UsageError
from merge.records.checkpoints import Checkpoint
from merge.storage.json_files import Json

_MOST_NAMED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedModel:
    """Where the model comes from."""

    __test__ = False  # pytest takes a class of this name for a test

    epoch: int
    """Epochs that it was trained for; 0 as it starts."""
    record: dict[str, Json]
    """What the result says of it."""


def load_tested_model(run: OpenRun) -> TestedModel:
    """Put the model of the run's checkpoint into `run.model`, on every rank.

    Without a checkpoint it stays as `build_model` made it. UsageError: the file is absent or of
    another configuration, or it is no checkpoint. DataError: it has changed, or other weights lie
    beneath it. NonFiniteError: a weight of it is NaN or infinite.
    """
    checkpoint = run.context.checkpoint
    if checkpoint is None:
        return TestedModel(epoch=0, record={"which": "start"})
    state = _state(run, checkpoint)
    _refuse_foreign(run, checkpoint, state)
    try:
        # A last.pt holds the raw weights too; the moving average is what is tested.
        model = state["average"] if "average" in state else state["model"]
        load_trained_state(run.task, run.model, model)
        _refuse_destroyed(run)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{run.context.checkpoint_path} does not fit the model of this run: {reason}"
        ) from error
    epoch = _epoch(state)
    return TestedModel(epoch=epoch, record={**checkpoint.to_json(), "epoch": epoch})


def _state(run: OpenRun, checkpoint: Checkpoint) -> Mapping[str, Any]:
    content = _read(run, checkpoint)
    try:
        return decode_checkpoint(content, run.context.checkpoint_path)
    except RecordError as error:
        # What repairs a training, to delete the file, would lose the model here. torch's own reason
        # advises to load a file that may hold a program.
        raise UsageError(
            f"{run.context.checkpoint_path} cannot be read as a checkpoint: name a best.pt or a "
            "last.pt of a training; of a damaged one, fetch a copy (`replicate sync pull`)"
        ) from error


def _read(run: OpenRun, checkpoint: Checkpoint) -> bytes:
    """The bytes of the file, read by rank 0 for all ranks."""
    path = run.context.checkpoint_path
    content = path.read_bytes() if run.ranks.is_main and path.is_file() else None
    content = broadcast_object(content, run.ranks)
    if content is None:
        raise UsageError(
            f"the checkpoint {path} is not there: fetch the training's folder with "
            "`replicate sync pull`, or evaluate another checkpoint (--checkpoint)"
        )
    found = sha256(content).hexdigest()
    if found != checkpoint.sha256:
        raise DataError(
            f"the checkpoint {path} has changed since the evaluation was planned (SHA-256 {found}, "
            f"planned {checkpoint.sha256}): restore the file, or give the evaluation of the new "
            "one a name of its own (`replicate evaluate --name`)"
        )
    return content


def _refuse_destroyed(run: OpenRun) -> None:
    """NonFiniteError: a weight is NaN or infinite, which a class or a mask does not show."""
    names = [name for name, _ in run.model.named_parameters()]
    if not torch.isfinite(magnitude(run.model, names)):
        raise NonFiniteError(
            f"{run.context.checkpoint_path} holds weights that are NaN or infinite: its training "
            "destroyed the model; evaluate another checkpoint"
        )


def _refuse_foreign(run: OpenRun, checkpoint: Checkpoint, state: Mapping[str, Any]) -> None:
    path = run.context.checkpoint_path
    if "model" not in state or not ("evaluation" in state or "progress" in state):
        raise UsageError(f"{path} holds no trained model: name a best.pt or a last.pt")
    # The hash of a training covers all of its values: there is nothing left to compare.
    if state["config_hash"] != checkpoint.config_hash:
        _refuse_other_values(run, state)
    known, present = state["identity"], run.task.identity(run.model)
    for name in run.task.identity_of_model:
        theirs, ours = (each.get(name, "not recorded") for each in (known, present))
        if theirs != ours:
            raise DataError(
                f"{path} was trained with other {name} ({theirs}) than are here now ({ours}): "
                "restore those"
            )


def _refuse_other_values(run: OpenRun, state: Mapping[str, Any]) -> None:
    """UsageError where the checkpoint was trained with other values than this run."""
    path, values = run.context.checkpoint_path, state.get("config")
    if not isinstance(values, dict):
        raise UsageError(
            f"{path} is of another configuration (hash {state['config_hash']}) and does not say "
            "which: name the best.pt of its training, or its own output folder"
        )
    differences = list(_differences(run, values))
    if differences:
        shown = ", ".join(differences[:_MOST_NAMED])
        more = f" and {len(differences) - _MOST_NAMED} more" * (len(differences) > _MOST_NAMED)
        raise UsageError(
            f"{path} was trained with other values than this run: {shown}{more}; choose the run of "
            "these values, or plan one with them"
        )


def _differences(run: OpenRun, values: Mapping[str, Any]) -> Iterator[str]:
    """Options that decide a training and differ, as `lr 0.1 instead of 0.2`."""
    own = flat(run.task.options)  # type: ignore[arg-type]
    for leaf in leaves(type(run.task.options)):
        decides = leaf.option.decides_numbers and not leaf.option.is_test_setting
        if decides and leaf.name in values and values[leaf.name] != own[leaf.name]:
            yield f"{leaf.name} {values[leaf.name]} instead of {own[leaf.name]}"


def _epoch(state: Mapping[str, Any]) -> int:
    """Epochs that the model in a best.pt or a last.pt was trained for."""
    place = state["evaluation"] if "evaluation" in state else state["progress"]
    epoch: int = place["epoch"]
    return epoch
