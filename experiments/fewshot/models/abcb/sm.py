"""Support modulation (Eq. 2-4): the support tokens meet the query's background context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from experiments.fewshot.models.abcb.histogram import affinity_histogram
from experiments.fewshot.models.abcb.layers import Attention, Mlp, Normalisation
from experiments.fewshot.models.abcb.tokens import Tokens, pack_order, take, take_heads

Evolution = Literal["both", "pixel", "statistics"]


@dataclass(frozen=True, slots=True)
class QueryCells:
    """The query at feature resolution."""

    features: Tensor
    """B N C."""
    colour: Tensor
    """RGB in [0, 255], B N 3."""
    normalised: Tensor
    """RGB as the backbone sees it, B N 3."""


class EvolutionFeature(nn.Module):
    """E = Ep + Es of the query's foreground cells (Eq. 4); "pixel" is Ep alone, "statistics" Es.

    Ep: a 1x1 convolution of the image and one of f_q, concatenated, through an MLP. Es: histograms
    of the cells' affinities in colour and in f_q, concatenated, through an MLP; one per image.
    """

    def __init__(self, channels: int, num_bins: int, parts: Evolution) -> None:
        super().__init__()
        self.num_bins, self.parts = num_bins, parts
        if parts != "statistics":
            self.on_image = nn.Linear(3, channels)
            self.on_features = nn.Linear(channels, channels)
            self.pixel = Mlp(2 * channels, channels)
        if parts != "pixel":
            self.statistics = Mlp(2 * num_bins, channels)

    def forward(self, query: QueryCells, is_foreground_BN: Tensor) -> Tokens:
        """One token per foreground cell."""
        order_BM, is_real_BM = pack_order(is_foreground_BN)
        features = Tokens(take(query.features, order_BM), is_real_BM)
        values_BMC = torch.zeros_like(features.values)
        if self.parts != "statistics":
            values_BMC = values_BMC + self._pixel(query, order_BM, features)
        if self.parts != "pixel":
            colours = Tokens(take(query.colour, order_BM), is_real_BM)
            values_BMC = values_BMC + self._statistics(colours, features)[:, None]
        return features.replaced(values_BMC)

    def _pixel(self, query: QueryCells, order_BM: Tensor, features: Tokens) -> Tensor:
        image_BMC = self.on_image(take(query.normalised, order_BM))
        both = torch.cat([image_BMC, self.on_features(features.values)], dim=2)
        pixel_BMC: Tensor = self.pixel(both)
        return pixel_BMC

    def _statistics(self, colours: Tokens, features: Tokens) -> Tensor:
        parts = [affinity_histogram(tokens, self.num_bins) for tokens in (colours, features)]
        statistics_BC: Tensor = self.statistics(torch.cat(parts, dim=1))
        return statistics_BC


class SupportModulation(nn.Module):
    """S_SM = S_QP + ATT(S_QP, Context, Context), Context = ATT(B, E, E) (Eq. 2, 3).

    An image whose prediction has no foreground or no background has no context: S_SM = S_QP there.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        normalisation: Normalisation,
        evolution: EvolutionFeature,
    ) -> None:
        super().__init__()
        self.evolution = evolution
        self.to_context = Attention(channels, num_heads, normalisation)
        self.to_support = Attention(channels, num_heads, normalisation)

    def prepare(self, query_BNC: Tensor) -> Tensor:
        """Q_B of every cell, which is the same in every iteration."""
        return self.to_context.queries(query_BNC)

    def forward(
        self, support: Tokens, query: QueryCells, prepared_BHND: Tensor, is_foreground_BN: Tensor
    ) -> Tokens:
        """Modulate the support tokens by the split of the query that a prediction makes."""
        evolution = self.evolution(query, is_foreground_BN)
        order_BM, is_real_BM = pack_order(~is_foreground_BN)
        context_BMC = self.to_context(
            take_heads(prepared_BHND, order_BM),
            self.to_context.keys_values(evolution.values),
            evolution.is_real,
        )
        update_BMC = self.to_support(
            self.to_support.queries(support.values),
            self.to_support.keys_values(context_BMC),
            is_real_BM,
        )
        has_context_B = is_foreground_BN.any(1) & ~is_foreground_BN.all(1)
        return support.replaced(support.values + update_BMC * has_context_B[:, None, None])
