"""Layers that the three steps share: attention with a bias per key, and a two-layer MLP."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Normalisation = Literal["none", "layer_norm"]
KeysValues = tuple[Tensor, Tensor]
"""Projected keys and values, B heads N d each."""

_LANES = 8  # fused attention kernels want head widths that are multiples of this


def biased_attention(q_BHMD: Tensor, k_BHND: Tensor, v_BHND: Tensor, bias_BN: Tensor) -> Tensor:
    """softmax(q k / sqrt(D) + bias) v, in memory linear in M and N; gives B H M D.

    A bias per key is one more channel of the product q k. So no M x N mask exists, neither in the
    forward pass nor as the gradient of the bias.
    """
    width = q_BHMD.shape[-1]
    extra = _LANES - width % _LANES
    bias_BHN1 = bias_BN.to(k_BHND.dtype)[:, None, :, None].expand(*k_BHND.shape[:3], 1)
    q = functional.pad(functional.pad(q_BHMD, (0, 1), value=math.sqrt(width)), (0, extra - 1))
    k = functional.pad(torch.cat([k_BHND, bias_BHN1], dim=-1), (0, extra - 1))
    v = functional.pad(v_BHND, (0, extra))
    out = functional.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(width))
    return out[..., :width]


def masked_attention(q_BHMD: Tensor, k_BHND: Tensor, v_BHND: Tensor, is_real_BN: Tensor) -> Tensor:
    """softmax(q k / sqrt(D)) v over the keys that are real; gives B H M D.

    A row without a real key attends to all of its padding, which keeps it finite.
    """
    mask_BN = is_real_BN | ~is_real_BN.any(1, keepdim=True)
    return functional.scaled_dot_product_attention(
        q_BHMD, k_BHND, v_BHND, attn_mask=mask_BN[:, None, None]
    )


class Attention(nn.Module):
    """Multi-head ATT(Q, K, V) with linear projections of all three and of the result."""

    def __init__(self, channels: int, num_heads: int, normalisation: Normalisation) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_query = _norm(channels, normalisation)
        self.norm_key = _norm(channels, normalisation)
        self.to_query = nn.Linear(channels, channels)
        self.to_key = nn.Linear(channels, channels)
        self.to_value = nn.Linear(channels, channels)
        self.to_out = nn.Linear(channels, channels)

    def queries(self, tokens_BMC: Tensor) -> Tensor:
        """Projected queries, B heads M d."""
        return self._heads(self.to_query(self.norm_query(tokens_BMC)))

    def keys_values(self, tokens_BNC: Tensor) -> KeysValues:
        """Projected keys and values; may be kept while the tokens stay the same."""
        normed_BNC = self.norm_key(tokens_BNC)
        return self._heads(self.to_key(normed_BNC)), self._heads(self.to_value(normed_BNC))

    def forward(self, queries_BHMD: Tensor, keys_values: KeysValues, is_real_BN: Tensor) -> Tensor:
        """Attend to the keys that are real; gives B M C."""
        return self._merge(masked_attention(queries_BHMD, *keys_values, is_real_BN))

    def biased(self, queries_BHMD: Tensor, keys_values: KeysValues, bias_BN: Tensor) -> Tensor:
        """Attend to all keys with one bias each; gives B M C."""
        return self._merge(biased_attention(queries_BHMD, *keys_values, bias_BN))

    def start_silent(self) -> None:
        """Let the result start as 0: what it is added to stays what it was."""
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def _merge(self, heads_BHMD: Tensor) -> Tensor:
        out_BMC: Tensor = self.to_out(heads_BHMD.transpose(1, 2).flatten(2))
        return out_BMC

    def _heads(self, tokens_BNC: Tensor) -> Tensor:
        batch, length, channels = tokens_BNC.shape
        shape = batch, length, self.num_heads, channels // self.num_heads
        return tokens_BNC.view(shape).transpose(1, 2)


class Mlp(nn.Sequential):
    """Two linear layers with a ReLU between them."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(nn.Linear(in_channels, channels), nn.ReLU(), nn.Linear(channels, channels))


def _norm(channels: int, normalisation: Normalisation) -> nn.Module:
    return nn.LayerNorm(channels) if normalisation == "layer_norm" else nn.Identity()
