"""Named random streams: every number drawn anywhere follows from one root seed and a name.

A stream depends on its name alone, so neither the order of draws elsewhere nor the number of
ranks or loader workers can change it.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_SEED_MASK = (1 << 63) - 1


def derive_seed(root: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream called `names` under `root`."""
    text = "\x1f".join(_tagged(part) for part in (root, *names))
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") & _SEED_MASK


def numpy_generator(root: int, *names: str | int) -> np.random.Generator:
    """A numpy generator of the stream called `names`."""
    return np.random.default_rng(derive_seed(root, *names))


def torch_generator(root: int, *names: str | int) -> torch.Generator:
    """A torch generator of the stream called `names`, on the CPU."""
    import torch

    return torch.Generator().manual_seed(derive_seed(root, *names))


def seed_everything(root: int, *names: str | int) -> None:
    """Seed the global generators of python, numpy and torch (all devices) with one stream.

    Call it with the same names on all ranks before the model is built, and with the rank among
    the names before training, so that dropout differs between ranks.
    """
    import torch

    random.seed(derive_seed(root, *names, "python"))
    np.random.seed(derive_seed(root, *names, "numpy") % 2**32)
    torch.manual_seed(derive_seed(root, *names, "torch"))


def _tagged(part: str | int) -> str:
    # The tag keeps 1 apart from "1"; int() makes a numpy integer equal to the plain one.
    return f"s{part}" if isinstance(part, str) else f"i{int(part)}"
