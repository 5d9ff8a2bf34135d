"""Checkpoints: whole, atomic, and made of tensors and plain values alone.

A checkpoint is loaded with `weights_only=True`, so no file can run code. One that cannot be read
is damaged by something else than a killed trainer, because it is renamed into place when complete.
"""

from __future__ import annotations

import io
import pickle
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.runtime.distributed import Ranks, broadcast_object
from merge.errors import RecordError, UsageError
from merge.storage.atomic import write_atomic

_SCHEMA = 2
"""1 held counts by class of each evaluation; since 2 it holds the tally of each test list."""

State = dict[str, Any]

_DAMAGE = (
    *(OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError),
    *(struct.error, pickle.UnpicklingError),
)
"""What torch raises for damaged content, depending on where the damage is."""


def save_checkpoint(path: Path, state: Mapping[str, object], *, config_hash: str) -> None:
    """Replace `path` by `state`, all of it or nothing. StorageError: the disk is full."""
    # Serialised in memory first: torch's writer turns a full disk into an unspecific RuntimeError.
    buffer = io.BytesIO()
    torch.save({"schema": _SCHEMA, "config_hash": config_hash, **state}, buffer)
    write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def load_checkpoint(path: Path, ranks: Ranks, *, config_hash: str) -> State | None:
    """The state saved at `path`, on the CPU of every rank; None where there is none yet.

    Rank 0 reads the file for all ranks: over NFS two hosts may see different versions of it.
    RecordError: the file is damaged. UsageError: it belongs to another configuration, or an
    earlier version of papergrid wrote it.
    """
    content = path.read_bytes() if ranks.is_main and path.exists() else None
    content = broadcast_object(content, ranks)
    return None if content is None else _checked(content, path, config_hash)


def read_checkpoint(path: Path, *, config_hash: str) -> State | None:
    """The same on one rank alone."""
    return _checked(path.read_bytes(), path, config_hash) if path.exists() else None


def _checked(content: bytes, path: Path, config_hash: str) -> State:
    state = decode_checkpoint(content, path)
    if state.get("config_hash") != config_hash:
        raise UsageError(
            f"{path} was written with another configuration (hash {state.get('config_hash')}, "
            f"this run has {config_hash}): use another output folder, or delete the file to start "
            "this run from the beginning"
        )
    return state


def random_state(device: torch.device) -> State:
    """The states of this rank's global generators: python, numpy, torch, its GPU's."""
    version, numbers, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    inner = numpy_state["state"]
    # Plain numbers instead of numpy's array, which torch refuses to load with weights_only=True.
    return {
        "python": [version, list(numbers), gauss],
        "numpy": {**numpy_state, "state": {**inner, "key": [int(word) for word in inner["key"]]}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(state: State, device: torch.device) -> None:
    """Put this rank's global generators back to `state`."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    inner = state["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**inner, "key": key}})
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def decode_checkpoint(content: bytes, path: Path) -> State:
    """The state in the bytes of the file `path`. RecordError: damaged. UsageError: older."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise RecordError(
            f"{path} is damaged ({reason}): a trainer replaces it only by a complete file, so look "
            "at the disk; delete it and start the run again from the beginning"
        ) from error
    if isinstance(state, dict) and state.get("schema") == 1:
        raise UsageError(
            f"{path} was written by an earlier version of papergrid (checkpoint schema 1, this "
            f"version reads {_SCHEMA}): finish the run with that version, or delete the folder "
            f"{path.parent} to train it from the beginning"
        )
    if not isinstance(state, dict) or state.get("schema") != _SCHEMA:
        raise RecordError(f"{path} is no checkpoint of schema {_SCHEMA}: delete it and start again")
    return state
