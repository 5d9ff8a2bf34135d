"""The structure loss of the field, and the loss that balances the experts.

Wei et al., "F3Net: fusion, feedback and focus for salient object detection", AAAI 2020: binary
cross entropy and IoU in which pixels near the object's rim weigh up to six times as much.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, interpolate

from experiments.camouflage.model import Maps
from experiments.runtime.task import Term

_REACH_PX = 15
"""The mean around a pixel is over 31x31 pixels."""
_RIM_FACTOR = 5


def loss_terms(maps: Maps, truth_B1HW: Tensor, balance_weight: float) -> Sequence[Term]:
    """The structure loss of each level at the size of the truth, and the balance loss.

    Each is one number an image and a mean over the images, so it does not depend on how a batch
    is divided.
    """
    truth = truth_B1HW.float()
    weights = rim_weights(truth)
    terms = [
        Term(structure_loss(_resized(logits, truth), truth, weights).mean(), "items")
        for logits in maps.logits
    ]
    return [*terms, Term(maps.balance.float().mean(), "items", balance_weight)]


def rim_weights(truth_B1HW: Tensor) -> Tensor:
    """1 far from the object's rim, up to 6 at thin parts of it."""
    size = 2 * _REACH_PX + 1
    around = avg_pool2d(truth_B1HW, size, stride=1, padding=_REACH_PX)
    return 1 + _RIM_FACTOR * (around - truth_B1HW).abs()


def structure_loss(logits_B1HW: Tensor, truth_B1HW: Tensor, weights_B1HW: Tensor) -> Tensor:
    """Weighted cross entropy and weighted IoU of each image, B."""
    entropy = binary_cross_entropy_with_logits(logits_B1HW, truth_B1HW, reduction="none")
    cross_entropy = _sum(weights_B1HW * entropy) / _sum(weights_B1HW)
    found = logits_B1HW.sigmoid()
    both = _sum(weights_B1HW * found * truth_B1HW)
    either = _sum(weights_B1HW * (found + truth_B1HW)) - both
    # The 1 keeps images without an object from dividing by 0.
    return cross_entropy + 1 - (both + 1) / (either + 1)


def _sum(values_B1HW: Tensor) -> Tensor:
    return values_B1HW.sum(dim=(1, 2, 3))


def _resized(logits_B1HW: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    return interpolate(logits_B1HW.float(), size=size, mode="bilinear", align_corners=False)
