"""Other ways to compute the same model, which are the defaults on CUDA.

All leave names and shapes of the state as they are, so a checkpoint fits with and without them. The
configuration's hash holds the options, because each rounds differently; "auto" is on with CUDA and
off on the CPU. None is left out silently: where a compiler is missing, a run ends with an error.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiments.backbones.constant import ConstantBackbone
from experiments.fewshot.models.abcb.histogram import front_histogram
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.abcb.packed import Reach, ranged_attention
from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.options import OnCuda, TrainingOptions
from experiments.runtime.precision import Precision
from merge.errors import UsageError

_MOST_FORMS = 64


def make_faster(
    model: FewShotModel, options: TrainingOptions, precision: Precision
) -> tuple[str, ...]:
    """What the options ask for on a device, in place; the names of those that are on.

    The model comes to the device. UsageError: an option does not work here, or not for the model.
    """
    device = precision.device
    model.to(device)
    chosen = _chosen(model, options, device)
    if "channels_last" in chosen:
        use_channels_last(model)
    if "constant_backbone" in chosen:
        model.keep_constant(ConstantBackbone(model.backbone, precision.dtype))
    if "fixed_shapes" in chosen:
        assert isinstance(model, Abcb)
        _try_kernel(device)
        model.has_fixed_shapes = True
    if "compile" in chosen:
        compile_parts(model, device)
    return chosen


def _chosen(model: FewShotModel, options: TrainingOptions, device: torch.device) -> tuple[str, ...]:
    if options.constant_backbone == "on" and not model.backbone.is_frozen:
        raise UsageError(
            "constant_backbone=on, but this backbone is trained (from_scratch): set it to auto"
        )
    fits = {
        "channels_last": True,
        "constant_backbone": model.backbone.is_frozen,
        "fixed_shapes": isinstance(model, Abcb),
        "compile": True,
    }
    return tuple(
        name
        for name, does_fit in fits.items()
        if does_fit and is_on(getattr(options, name), device)
    )


def is_on(option: OnCuda, device: torch.device) -> bool:
    """Whether an option is on for a device."""
    return option == "on" or (option == "auto" and device.type == "cuda")


def use_channels_last(model: FewShotModel) -> None:
    """Keep the weights of convolutions and the images that enter the backbone in channels-last."""
    model.to(memory_format=torch.channels_last)
    model.backbone.register_forward_pre_hook(_images_channels_last)


def compile_parts(model: FewShotModel, device: torch.device) -> None:
    """Compile the parts whose shapes are few: backbone, neck, and an iteration in fixed shapes.

    UsageError: torch.compile does not work on this machine.
    """
    _try_compiler(device)
    # A CPU gains from fixed sizes alone. On a GPU a test follows, with other numbers of images:
    # from the second size on torch compiles for any number, instead of once for each.
    dynamic = None if device.type == "cuda" else False
    # Training and tests, queries and supports, whole and last batches: more forms than torch's 8,
    # after which it would go on without compiling.
    torch._dynamo.config.recompile_limit = _MOST_FORMS
    model.encoder.compile(dynamic=dynamic)
    for name, part in model.named_children():
        if name == "neck":
            part.compile(dynamic=dynamic)
    if isinstance(model, Abcb) and model.has_fixed_shapes:
        model.compile_iterations(dynamic=dynamic)


def _images_channels_last(_: nn.Module, images: tuple[Tensor]) -> tuple[Tensor]:
    return (images[0].contiguous(memory_format=torch.channels_last),)


def _try_compiler(device: torch.device) -> None:
    """Compile one addition: what is missing shows now, and not after the data was read."""
    compiled = torch.compile(_add_one)
    _tried("compile", "torch.compile does", lambda: compiled(torch.ones(64, device=device)))


def _try_kernel(device: torch.device) -> None:
    """One attention and one histogram of one vector, which builds the kernel."""
    unit = torch.ones(1, 1, 16, device=device) / 4
    counts = torch.ones(1, dtype=torch.int32, device=device)
    tokens = unit.to(torch.float16)
    reach = Reach(counts - 1, counts, counts - 1, counts)

    def one_of_each() -> None:
        front_histogram(unit, counts, 2)
        ranged_attention(tokens, tokens, tokens, reach, 2)

    _tried("fixed_shapes", "its kernels do", one_of_each)


def _tried(option: str, what: str, action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"{option} is on, but {what} not work here ({type(error).__name__}: {reason}): install "
            "a C++ compiler (g++, or name one in CXX) and Python's headers, and on CUDA torch 2.11 "
            f"or newer; or set {option}=off"
        ) from error


def _add_one(x: Tensor) -> Tensor:
    return x + 1
