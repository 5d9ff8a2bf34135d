"""Mixed precision of one run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

_DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Precision:
    """In which type the forward pass computes."""

    amp: Amp
    device: torch.device

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=_DTYPES[self.amp], enabled=self.amp != "off")

    def new_scaler(self) -> torch.amp.GradScaler:
        """A loss scaler, which does nothing except with fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")


Amp = Literal["off", "bf16", "fp16"]
