"""Two ways to compute the same model that a run may choose: torch.compile and channels-last.

Both leave names and shapes of the state as they are, so a checkpoint fits with and without them.
The configuration's hash differs, because both round differently.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.options import TrainingOptions
from merge.errors import UsageError


def make_faster(model: FewShotModel, options: TrainingOptions, device: torch.device) -> None:
    """What the options ask for, in place. UsageError: torch.compile does not work here."""
    if options.channels_last:
        use_channels_last(model)
    if options.compile:
        compile_parts(model, device)


def use_channels_last(model: FewShotModel) -> None:
    """Keep the weights of convolutions and the images that enter the backbone in channels-last."""
    model.to(memory_format=torch.channels_last)
    model.backbone.register_forward_pre_hook(_images_channels_last)


def compile_parts(model: FewShotModel, device: torch.device) -> None:
    """Compile the parts whose shapes are few: the backbone, and the neck of `abcb`.

    The parts behind them work on sets of tokens whose sizes change with every step. UsageError:
    torch.compile does not work on this machine.
    """
    _try_compiler(device)
    for name, part in model.named_children():
        if name in ("backbone", "neck"):
            part.compile(dynamic=False)


def _images_channels_last(_: nn.Module, images: tuple[Tensor]) -> tuple[Tensor]:
    return (images[0].contiguous(memory_format=torch.channels_last),)


def _try_compiler(device: torch.device) -> None:
    """Compile one addition: what is missing shows now, and not after the data was read."""
    try:
        torch.compile(_add_one)(torch.ones(64, device=device))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"compile=true, but torch.compile does not work here ({type(error).__name__}: "
            f"{reason}): install a C++ compiler (g++, or name one in CXX) and Python's headers, "
            "or set compile=false"
        ) from error


def _add_one(x: Tensor) -> Tensor:
    return x + 1
