"""What a model consists of: its parameters, its layers, and the work of one item."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_DEPTH = 2
"""Levels of modules in the summary."""


@dataclass(slots=True, kw_only=True)
class ModelInfo:
    """A model in numbers."""

    parameters: int
    trainable: int
    layers: list[tuple[str, str, int]]
    """Name, class and parameters of each module of the first levels."""
    macs_per_item: int | None = None
    """Multiply-adds of convolutions and linear layers in a forward pass, by training item; None
    where they are not counted (compiled models), or no step was made yet."""

    def to_json(self) -> dict[str, Any]:
        """As a result holds it."""
        counts = {"parameters": self.parameters, "trainable": self.trainable}
        return counts | ({"macs_per_item": self.macs_per_item} if self.macs_per_item else {})

    def text(self) -> str:
        """As model_info.txt shows it."""
        width = max((len(name) for name, *_ in self.layers), default=0)
        rows = [f"{name:<{width}}  {kind:<24} {n:>14,}" for name, kind, n in self.layers]
        macs = "not counted" if self.macs_per_item is None else f"{self.macs_per_item:,}"
        head = [
            f"parameters     {self.parameters:,}",
            f"trainable      {self.trainable:,}",
            f"MACs per item  {macs} (convolutions and linear layers, one forward pass)",
        ]
        return "\n".join([*head, "", *rows, ""])


def describe_model(model: nn.Module, trainable: Iterable[str]) -> ModelInfo:
    """The parameters and layers of `model`; `trainable` names the parameters that train."""
    sizes = {name: each.numel() for name, each in model.named_parameters()}
    return ModelInfo(
        parameters=sum(sizes.values()),
        trainable=sum(sizes[name] for name in trainable),
        layers=[
            (name, type(module).__name__, sum(each.numel() for each in module.parameters()))
            for name, module in model.named_modules()
            if name and name.count(".") < _DEPTH
        ],
    )


class MacCounter:
    """Counts the multiply-adds of the next forward pass of `model`, by hooks that then go."""

    def __init__(self, model: nn.Module) -> None:
        self.macs: int | None = None
        self._handles: list[RemovableHandle] = []
        if not any(_is_compiled(module) for module in model.modules()):
            self._attach(model)

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _attach(self, model: nn.Module) -> None:
        for module in model.modules():
            work = _work_of(module)
            if work is not None:
                self._handles.append(module.register_forward_hook(self._counting(work)))
        # The first pass alone: checkpointed activations are computed twice.
        self._handles.append(model.register_forward_hook(lambda *_: self.remove()))

    def _counting(self, work: Callable[[Tensor], int]) -> Callable[..., None]:
        def count(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.macs = (self.macs or 0) + work(output)

        return count


def _is_compiled(module: nn.Module) -> bool:
    # Hooks that come and go would compile it a second time.
    is_wrapper = type(module).__name__ == "OptimizedModule"
    return is_wrapper or getattr(module, "_compiled_call_impl", None) is not None


def _work_of(module: nn.Module) -> Callable[[Tensor], int] | None:
    """Multiply-adds of a layer by its output."""
    if isinstance(module, nn.Linear):
        return lambda output: output.numel() * module.in_features
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        per_value = module.weight[0].numel()
        return lambda output: output.numel() * per_value
    return None
