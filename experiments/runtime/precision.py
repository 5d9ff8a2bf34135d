"""Mixed precision of one run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from experiments.runtime import options
from merge.errors import UsageError
from merge.records.sweep import DeviceKind

_DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Precision:
    """In which type the forward pass computes."""

    amp: Amp
    device: torch.device

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, dtype=_DTYPES[self.amp], enabled=self.amp != "off")

    @property
    def dtype(self) -> torch.dtype:
        """The type of products in a forward pass."""
        return _DTYPES[self.amp]

    def new_scaler(self) -> torch.amp.GradScaler:
        """A loss scaler, which does nothing except with fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")


Amp = Literal["off", "bf16", "fp16"]
"""What `amp` of the options comes to on a device."""


def resolve_amp(amp: options.Amp, device_kind: DeviceKind, *, has_bf16: bool) -> Amp:
    """The precision that `amp` means on this device. UsageError: bf16 or fp16 on the CPU."""
    if amp == "auto":
        if device_kind == "cpu":
            return "off"
        return "bf16" if has_bf16 else "fp16"
    if amp != "off" and device_kind == "cpu":
        raise UsageError(
            f"amp={amp} needs a GPU and this run is on the CPU: set amp=off or amp=auto"
        )
    return amp


def choose_precision(amp: options.Amp, device: torch.device) -> Precision:
    """The precision of a run on `device`. UsageError: mixed precision on the CPU."""
    is_cuda = device.type == "cuda"
    # Emulated bfloat16, on GPUs before Ampere, is slower than float32.
    has_bf16 = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    kind: DeviceKind = "cuda" if is_cuda else "cpu"
    return Precision(resolve_amp(amp, kind, has_bf16=has_bf16), device)


def use_tf32(device: torch.device, is_wanted: bool) -> None:
    """Let a GPU multiply float32 in TF32, or not; without effect on the CPU."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = is_wanted
        torch.backends.cudnn.allow_tf32 = is_wanted
