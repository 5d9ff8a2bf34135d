"""Information cleansing (Eq. 5, 6): what raised the query's uncertainty is taken out again."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from experiments.fewshot.models.abcb.layers import (
    Attention,
    FlatKeysValues,
    KeysValues,
    Mlp,
    Normalisation,
)
from experiments.fewshot.models.abcb.packed import Reach
from experiments.fewshot.models.abcb.tokens import Tokens

ConfidenceBias = Literal["entropy_rise", "entropy_fall", "none"]


class InformationCleansing(nn.Module):
    """S_IC = S_SM - Linear(N), N = softmax(Q_phi[S_QP, S_SM] K_fq + V) V_fq."""

    def __init__(
        self, channels: int, num_heads: int, normalisation: Normalisation, bias: ConfidenceBias
    ) -> None:
        super().__init__()
        self.bias = bias
        self.phi = Mlp(2 * channels, channels)
        self.attention = Attention(channels, num_heads, normalisation)

    def prepare(self, query_BNC: Tensor) -> KeysValues:
        """K and V of f_q, which are the same in every iteration."""
        return self.attention.keys_values(query_BNC)

    def forward(
        self, before: Tokens, modulated: Tokens, prepared: KeysValues, entropy_rise_BN: Tensor
    ) -> Tokens:
        """Cleanse S_SM (`modulated`) of S_QP (`before`); the result has the same token sets."""
        joined = torch.cat([before.values, modulated.values], dim=2)
        queries = self.attention.queries(self.phi(joined))
        noise_BMC = self.attention.biased(queries, prepared, self._bias(entropy_rise_BN))
        return modulated.replaced(modulated.values - noise_BMC)

    def prepare_cells(self, query_BNC: Tensor) -> FlatKeysValues:
        """`prepare` for `cleanse`."""
        return self.attention.flat_keys_values(query_BNC)

    def cleanse(
        self, before: Tokens, modulated: Tokens, prepared: FlatKeysValues, entropy_rise_BN: Tensor
    ) -> Tokens:
        """`forward` in fixed shapes: no query of padding is multiplied with a key."""
        joined = torch.cat([before.values, modulated.values], dim=2)
        sizes = modulated.count()
        none = torch.zeros_like(sizes)
        every = sizes.new_full(sizes.shape, entropy_rise_BN.shape[1])
        noise_BMC = self.attention.ranged(
            self.attention.flat_queries(self.phi(joined)),
            prepared,
            Reach(none, sizes, none, every),
            self._bias(entropy_rise_BN),
        )
        return modulated.replaced(modulated.values - noise_BMC)

    def _bias(self, entropy_rise_BN: Tensor) -> Tensor:
        signs = {"entropy_rise": 1.0, "entropy_fall": -1.0, "none": 0.0}
        return entropy_rise_BN * signs[self.bias]


def entropy(logits_BN2: Tensor) -> Tensor:
    """Entropy of the two-class prediction in nats, B N, in float32 or better."""
    wide = logits_BN2 if logits_BN2.dtype == torch.float64 else logits_BN2.float()
    log_p = wide.log_softmax(2)
    return -(log_p.exp() * log_p).sum(2)
