"""Support modulation (Eq. 2-4): the support tokens meet the query's background context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from experiments.fewshot.models.abcb.histogram import (
    affinity_histogram,
    front_histogram,
    unit_vectors,
)
from experiments.fewshot.models.abcb.layers import Attention, Mlp, Normalisation
from experiments.fewshot.models.abcb.packed import Order, Reach, members_first
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


@dataclass(frozen=True, slots=True)
class PreparedCells:
    """What of the query's cells is the same in every iteration, for sets in fixed shapes."""

    queries: Tensor
    """Q_B, B N C."""
    pixel: Tensor
    """Ep, B N C; 0 where the evolution feature is without it."""
    unit_features: Tensor
    """f_q scaled to length 1, B N C."""
    unit_colour: Tensor
    """B N 3."""


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
        return self._pixel_of(take(query.normalised, order_BM), features.values)

    def _pixel_of(self, normalised_BM3: Tensor, features_BMC: Tensor) -> Tensor:
        image_BMC = self.on_image(normalised_BM3)
        both = torch.cat([image_BMC, self.on_features(features_BMC)], dim=2)
        pixel_BMC: Tensor = self.pixel(both)
        return pixel_BMC

    def _statistics(self, colours: Tokens, features: Tokens) -> Tensor:
        parts = [affinity_histogram(tokens, self.num_bins) for tokens in (colours, features)]
        statistics_BC: Tensor = self.statistics(torch.cat(parts, dim=1))
        return statistics_BC

    def pixel_of_all(self, query: QueryCells) -> Tensor:
        """Ep of every cell, B N C; 0 where the feature is without it."""
        if self.parts == "statistics":
            return torch.zeros_like(query.features)
        return self._pixel_of(query.normalised, query.features)

    def in_order(self, cells: PreparedCells, order: Order) -> Tensor:
        """E of every cell in the order, B N C: Ep is the cell's own, Es that of the foreground."""
        evolution_BNC = order(cells.pixel)
        if self.parts == "pixel":
            return evolution_BNC
        parts = [
            front_histogram(order(unit), order.num_members, self.num_bins)
            for unit in (cells.unit_colour, cells.unit_features)
        ]
        statistics_BC: Tensor = self.statistics(torch.cat(parts, dim=1))
        return evolution_BNC + statistics_BC[:, None].to(evolution_BNC.dtype)


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

    def prepare_cells(self, query: QueryCells) -> PreparedCells:
        """For `modulate`: what is the same in every iteration."""
        pixel_BNC = self.evolution.pixel_of_all(query)
        # The kernel multiplies tiles in the type of all other products.
        unit_features = unit_vectors(query.features).to(pixel_BNC.dtype)
        queries_BNC = self.to_context.flat_queries(query.features)
        return PreparedCells(queries_BNC, pixel_BNC, unit_features, unit_vectors(query.colour))

    def modulate(self, support: Tokens, cells: PreparedCells, is_foreground_BN: Tensor) -> Tokens:
        """`forward` in fixed shapes: sets are ranges of cells in a new order, not padded."""
        order = members_first(is_foreground_BN)
        num_foreground = order.num_members
        none, every = (
            torch.zeros_like(num_foreground),
            num_foreground.new_full(num_foreground.shape, is_foreground_BN.shape[1]),
        )
        context_BNC = self.to_context.ranged(
            order(cells.queries),
            self.to_context.flat_keys_values(self.evolution.in_order(cells, order)),
            Reach(num_foreground, every, none, num_foreground),
        )
        update_BMC = self.to_support.ranged(
            self.to_support.flat_queries(support.values),
            self.to_support.flat_keys_values(context_BNC),
            Reach(none, support.count(), num_foreground, every),
        )
        has_context_B = (num_foreground > 0) & (num_foreground < every)
        return support.replaced(support.values + update_BMC * has_context_B[:, None, None])
