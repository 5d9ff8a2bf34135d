"""Whether the images that a step trains on have the size that their epoch is set for."""

from __future__ import annotations

from torch import Tensor

from experiments.runtime.batches import Batch, apply_to_tensors
from merge.errors import UsageError

Size = int | tuple[int, int]
"""Side in pixels, or height and width."""


def first_images(batch: Batch) -> Tensor | None:
    """The first tensor with the shape NCHW in a batch; None where there is none."""
    found: list[Tensor] = []
    apply_to_tensors(batch, lambda tensor: found.append(tensor) if tensor.ndim == 4 else None)
    return found[0] if found else None


def check_image_size(images: Tensor | None, size: Size | None, epoch: int) -> None:
    """UsageError where the images NCHW of `epoch` have another size than is set for it."""
    if images is None or size is None:
        return
    wanted = (size, size) if isinstance(size, int) else size
    found = tuple(images.shape[-2:])
    if found != wanted:
        raise UsageError(
            f"epoch {epoch} is set to images of {wanted[0]}x{wanted[1]} pixels, but its first "
            f"batch has {found[0]}x{found[1]}: Task.train_data({epoch}) must return images of the "
            f"size that Task.image_size({epoch}) returns"
        )
