"""A sparse mixture of experts over the pixels of a feature map.

Shazeer et al., "Outrageously large neural networks", ICLR 2017; balance loss and plain gates of
Fedus et al., "Switch Transformers", JMLR 2022. B images, N pixels of all of them, C channels,
E experts, K experts a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SparseExperts(nn.Module):
    """Adds to each pixel what its K experts say; an expert computes its own pixels alone."""

    def __init__(self, channels: int, *, num_experts: int, top_k: int, width: int) -> None:
        super().__init__()
        self._top_k = top_k
        self.norm = nn.LayerNorm(channels)
        self.router = nn.Linear(channels, num_experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels))
            for _ in range(num_experts)
        )

    def forward(self, features_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The features with the experts' part added, and each image's balance loss, B.

        The balance loss is 1 where all experts get equally many pixels of the image, more else.
        """
        batch, channels, height, width = features_BCHW.shape
        pixels_NC = self.norm(features_BCHW.permute(0, 2, 3, 1).reshape(-1, channels))
        # In full precision: a rounded probability would send equal pixels to other experts.
        with torch.autocast(pixels_NC.device.type, enabled=False):
            logits_NE = nn.functional.linear(pixels_NC.float(), self.router.weight)
            probabilities_NE = logits_NE.softmax(dim=1)
        # The gate is the probability itself, so the router learns also with one expert a pixel.
        gates_NK, chosen_NK = probabilities_NE.topk(self._top_k, dim=1)
        mixed_NC = self._mix(pixels_NC, gates_NK, chosen_NK)
        mixed_BCHW = mixed_NC.view(batch, height, width, channels).permute(0, 3, 1, 2)
        balance_B = balance_loss(
            probabilities_NE.view(batch, height * width, -1), chosen_NK.view(batch, -1)
        )
        return features_BCHW + mixed_BCHW, balance_B

    def _mix(self, pixels_NC: Tensor, gates_NK: Tensor, chosen_NK: Tensor) -> Tensor:
        num_pixels, top_k = chosen_NK.shape
        order, inverse, counts = grouped(chosen_NK, len(self.experts))
        # Each row is gathered once, so the sums of the backward pass have one order on a GPU too.
        rows = pixels_NC[:, None].expand(-1, top_k, -1).reshape(num_pixels * top_k, -1)
        parts = torch.split(rows.index_select(0, order), counts)
        # Experts without a pixel compute 0 rows: their gradients are then 0, not absent, and DDP
        # need not search for unused parameters.
        answers = [expert(part) for expert, part in zip(self.experts, parts, strict=True)]
        spread = torch.cat(answers).index_select(0, inverse).view(num_pixels, top_k, -1)
        return (spread * gates_NK[:, :, None]).sum(1)


def grouped(chosen_NK: Tensor, num_experts: int) -> tuple[Tensor, Tensor, list[int]]:
    """The choices in the order of their experts, the way back, and how many each expert has."""
    flat = chosen_NK.flatten()
    order = flat.argsort(stable=True)
    counts: list[int] = flat.bincount(minlength=num_experts).tolist()
    return order, order.argsort(), counts


def balance_loss(probabilities_BTE: Tensor, chosen_BX: Tensor) -> Tensor:
    """E times the sum over experts of (share of choices) x (mean probability), for each image.

    Per image, not over the batch: a product of two means over a batch would depend on how the
    batch is divided among ranks.
    """
    num_experts = probabilities_BTE.shape[2]
    hits_BXE = nn.functional.one_hot(chosen_BX, num_experts)
    share_BE = hits_BXE.float().mean(1)
    balance: Tensor = num_experts * (share_BE * probabilities_BTE.mean(1)).sum(1)
    return balance
