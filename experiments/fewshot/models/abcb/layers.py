"""Layers that the three steps share: attention with a bias per key, and a two-layer MLP."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from experiments.fewshot.models.abcb.packed import (
    OUT_OF_REACH,
    Reach,
    fused_attention,
    ranged_attention,
    with_bias,
)

Normalisation = Literal["none", "layer_norm"]
KeysValues = tuple[Tensor, Tensor]
"""Projected keys and values, B heads N d each."""
FlatKeysValues = tuple[Tensor, Tensor]
"""The same with all heads in one row, B N C each."""


def biased_attention(q_BHMD: Tensor, k_BHND: Tensor, v_BHND: Tensor, bias_BN: Tensor) -> Tensor:
    """softmax(q k / sqrt(D) + bias) v, in memory linear in M and N; gives B H M D.

    A bias per key is one more channel of the product q k. So no M x N mask exists, neither in the
    forward pass nor as the gradient of the bias.
    """
    width = q_BHMD.shape[-1]
    q, k, v = with_bias((q_BHMD, k_BHND, v_BHND), bias_BN[:, None])
    with fused_attention(q):
        out = functional.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(width))
    return out[..., :width]


def masked_attention(q_BHMD: Tensor, k_BHND: Tensor, v_BHND: Tensor, is_real_BN: Tensor) -> Tensor:
    """softmax(q k / sqrt(D)) v over the keys that are real; gives B H M D.

    A row without a real key attends to all of its padding, which keeps it finite.
    """
    mask_BN = is_real_BN | ~is_real_BN.any(1, keepdim=True)
    if q_BHMD.is_cuda:
        # With a mask some types have no fused kernel, and a plain one keeps all products.
        bias_BN = k_BHND.new_zeros(mask_BN.shape).masked_fill(~mask_BN, OUT_OF_REACH)
        return biased_attention(q_BHMD, k_BHND, v_BHND, bias_BN)
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

    def ranged(
        self,
        queries_BMC: Tensor,
        keys_values: FlatKeysValues,
        reach: Reach,
        bias_BN: Tensor | None = None,
    ) -> Tensor:
        """Attend within `reach`; gives B M C."""
        seen_BMC = ranged_attention(queries_BMC, *keys_values, reach, self.num_heads, bias_BN)
        out_BMC: Tensor = self.to_out(seen_BMC)
        return out_BMC

    def flat_queries(self, tokens_BMC: Tensor) -> Tensor:
        """Projected queries of all heads, B M C."""
        queries_BMC: Tensor = self.to_query(self.norm_query(tokens_BMC))
        return queries_BMC

    def flat_keys_values(self, tokens_BNC: Tensor) -> FlatKeysValues:
        """Projected keys and values of all heads."""
        normed_BNC = self.norm_key(tokens_BNC)
        return self.to_key(normed_BNC), self.to_value(normed_BNC)

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
