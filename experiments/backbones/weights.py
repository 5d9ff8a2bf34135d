"""Pretrained weights: reading the file that `weight_files` finds, and loading it strictly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.backbones.weight_files import WeightSource, checked_sha256, find_weights
from merge.errors import DataError

RANDOM_WEIGHTS_ID = "random"

_NUM_KEYS_SHOWN = 20
_BATCH_COUNTER = "num_batches_tracked"  # unused in eval(), and absent from older files


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors of one weight file and where they came from."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]

    @property
    def weights_id(self) -> str:
        """File name and checksum, for the records of a run."""
        return f"{self.path.name} sha256:{self.sha256}"


def read_weights(source: WeightSource, given: Path | None) -> Weights:
    """Find the file (`given` file or folder, torch hub's cache, package), check and read it.

    Raises DataError when it is absent, has not the sha256 in its name, or holds no tensors.
    """
    path = find_weights(source, given)
    sha256 = checked_sha256(path, source)
    return Weights(path, sha256, _read_tensors(path))


def load_strictly(module: nn.Module, weights: Weights, *, ignored: tuple[str, ...] = ()) -> None:
    """Copy tensors into `module`; keys that start with a prefix of `ignored` are left out.

    Raises DataError that lists missing keys, unexpected keys and other shapes.
    """
    target = {k: v for k, v in module.state_dict().items() if not k.startswith(ignored)}
    tensors = {k: v for k, v in weights.tensors.items() if not k.startswith(ignored)}
    problems = _differences(target, tensors)
    if problems:
        raise DataError(
            f"{weights.path} does not fit this backbone: {'; '.join(problems)}. "
            "Give the official file of this architecture with --weights PATH"
        )
    module.load_state_dict(tensors, strict=False)


def load_in_order(module: nn.Module, weights: Weights) -> None:
    """Copy tensors into `module` by position, for a file whose keys have other names.

    Raises DataError unless number, last name part and shape of all tensors agree in order.
    """
    target = module.state_dict()
    if len(target) != len(weights.tensors):
        raise DataError(
            f"{weights.path} holds {len(weights.tensors)} tensors, this backbone has {len(target)}"
        )
    pairs = list(zip(target.items(), weights.tensors.items(), strict=True))
    for (name, tensor), (key, value) in pairs:
        if _last_part(name) != _last_part(key) or tensor.shape != value.shape:
            raise DataError(
                f"{weights.path}: {key} {_shape(value)} is where {name} {_shape(tensor)} belongs"
            )
    module.load_state_dict({name: value for (name, _), (_, value) in pairs}, strict=True)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{path} is no PyTorch weight file ({type(error).__name__})") from error
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path} holds a {type(content).__name__}, not named tensors")
    strangers = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise DataError(
            f"{path} holds more than named tensors ({_some(strangers)}): save the bare state_dict"
        )
    return {str(key): value for key, value in content.items()}


def _differences(target: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    wanted = {key for key in target if _last_part(key) != _BATCH_COUNTER}
    given = {key for key in tensors if _last_part(key) != _BATCH_COUNTER}
    reshaped = [
        f"{key} {_shape(tensors[key])} instead of {_shape(target[key])}"
        for key in target
        if key in tensors and target[key].shape != tensors[key].shape
    ]
    found = {
        "missing": sorted(wanted - given),
        "unexpected": sorted(given - wanted),
        "wrong shape": reshaped,
    }
    return [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in found.items() if keys]


def _some(keys: list[str]) -> str:
    more = ", ..." if len(keys) > _NUM_KEYS_SHOWN else ""
    return ", ".join(keys[:_NUM_KEYS_SHOWN]) + more


def _last_part(key: str) -> str:
    return key.rpartition(".")[2]


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
