"""The method `abcb` as a whole: neck, T iterations with shared weights, deep supervision."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from experiments.backbones.build import Backbone
from experiments.backbones.cells import pixels_to_cells
from experiments.fewshot.models.abcb.correlation import CorrelationNeck
from experiments.fewshot.models.abcb.ic import InformationCleansing, entropy
from experiments.fewshot.models.abcb.neck import ConvolutionNeck
from experiments.fewshot.models.abcb.qp import QueryPrediction
from experiments.fewshot.models.abcb.sm import (
    EvolutionFeature,
    PreparedCells,
    QueryCells,
    SupportModulation,
)
from experiments.fewshot.models.abcb.tokens import (
    Tokens,
    pack,
    pack_in_place,
    support_cells,
)
from experiments.fewshot.models.base import Features, FewShotModel, Output
from experiments.fewshot.options import AbcbOptions


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is the same in every iteration; the last two as the form of the token sets needs it."""

    query: QueryCells
    for_prediction: Tensor
    for_modulation: Tensor | PreparedCells
    for_cleansing: tuple[Tensor, Tensor] | None


class Abcb(FewShotModel):
    """Iterated query prediction, support modulation and information cleansing."""

    def __init__(self, backbone: Backbone, options: AbcbOptions) -> None:
        super().__init__(backbone)
        options.check()
        channels, heads, norm = options.channels, options.num_heads, options.normalisation
        self.options = options
        self.masks_supports = options.support_image == "masked"
        self.neck = _neck(backbone, options)
        self.qp = QueryPrediction(channels)
        # A step that never runs has no parameters: DDP waits for the gradient of every one.
        if options.iterations > 1:
            evolution = EvolutionFeature(channels, options.num_bins, options.evolution)
            self.sm = SupportModulation(channels, heads, norm, evolution)
            if options.has_cleansing:
                self.ic = InformationCleansing(channels, heads, norm, options.confidence_bias)
        if options.initialisation == "comparison":
            self._start_as_comparison()
        self.has_fixed_shapes = False
        """Whether token sets are ranges of all cells; else they are padded to the largest one."""
        # Without self, so that a copy of the model does not compute with this one's weights.
        self._begin, self._one_iteration = type(self)._beginning, type(self)._iteration

    def compile_iterations(self, *, dynamic: bool | None) -> None:
        """Compile what comes before them, and one for all; only fixed shapes stay compiled."""
        compiled = functools.partial(torch.compile, fullgraph=True, dynamic=dynamic)
        self._begin = compiled(type(self)._beginning)
        self._one_iteration = compiled(type(self)._iteration)

    def _start_as_comparison(self) -> None:
        self.neck.start_faithful()
        self.qp.start_as_comparison()
        if self.options.iterations > 1:
            self.sm.to_support.start_silent()
            if self.options.has_cleansing:
                self.ic.attention.start_silent()

    def segment(
        self, query_B3HW: Tensor, query: Features, support: Features, support_mask_BKHW: Tensor
    ) -> Output:
        """Logits of iteration T; those of the earlier iterations and after SM are auxiliary."""
        if self.options.shot_fusion == "average" and support_mask_BKHW.shape[1] > 1:
            return self._average_shots(query_B3HW, query, support, support_mask_BKHW)
        grid = self.grid(query_B3HW)
        is_member_BN = support_cells(support_mask_BKHW, grid, self.options.support_threshold)
        is_member_BKhw = is_member_BN.view(*support_mask_BKHW.shape[:2], *grid.size_hw)
        f_q, f_s = self.neck(query, support, is_member_BKhw)
        cells = self._query_cells(query_B3HW, f_q)
        tokens = self._tokens(_shots_cells(f_s), is_member_BN)
        predictions, hats = self._iterate(tokens, cells)
        weighted = [(logits, 1.0) for logits in predictions[:-1]]
        weighted += [(logits, self.options.auxiliary_weight) for logits in hats]
        auxiliary = tuple((_to_grid(logits, grid.size_hw), weight) for logits, weight in weighted)
        earlier = tuple(logits for logits, _ in auxiliary[: len(predictions) - 1])
        return Output(_to_grid(predictions[-1], grid.size_hw), grid, auxiliary, earlier)

    def _iterate(self, support: Tokens, query: QueryCells) -> tuple[list[Tensor], list[Tensor]]:
        """P_1 ... P_T and P_hat_1 ... P_hat_(T-1) as logits, B N 2 each."""
        if self.options.iterations == 1:
            return [self.qp(support, self.qp.prepare(query.features))], []
        prepared, first_BN2 = self._begin(self, support, query)
        predictions: list[Tensor] = [first_BN2]
        hats: list[Tensor] = []
        for _ in range(self.options.iterations - 1):
            support, hat_BN2, logits_BN2 = self._one_iteration(
                self, support, predictions[-1], prepared
            )
            if hat_BN2 is not None:
                hats.append(hat_BN2)
            predictions.append(logits_BN2)
        return predictions, hats

    def _beginning(self, support: Tokens, query: QueryCells) -> tuple[_Prepared, Tensor]:
        """What is the same in every iteration, and P_1."""
        prepared_BNC = self.qp.prepare(query.features)
        first_BN2: Tensor = self.qp(support, prepared_BNC)
        return self._prepare(query, prepared_BNC), first_BN2

    def _prepare(self, query: QueryCells, prepared_BNC: Tensor) -> _Prepared:
        has_cleansing = self.options.has_cleansing
        if self.has_fixed_shapes:
            cells = self.sm.prepare_cells(query)
            seen = self.ic.prepare_cells(query.features) if has_cleansing else None
            return _Prepared(query, prepared_BNC, cells, seen)
        queries_BHND = self.sm.prepare(query.features)
        keys_values = self.ic.prepare(query.features) if has_cleansing else None
        return _Prepared(query, prepared_BNC, queries_BHND, keys_values)

    def _iteration(
        self, before: Tokens, logits_BN2: Tensor, prepared: _Prepared
    ) -> tuple[Tokens, Tensor | None, Tensor]:
        """From S_QP and P_t to the next S_QP, P_hat_t and P_(t+1)."""
        support = self._modulated(before, self._foreground(logits_BN2.detach()), prepared)
        hat_BN2 = None
        if prepared.for_cleansing is not None:
            hat_BN2 = self.qp(support, prepared.for_prediction)
            rise_BN = entropy(hat_BN2) - entropy(logits_BN2)
            cleanse = self.ic.cleanse if self.has_fixed_shapes else self.ic
            support = cleanse(before, support, prepared.for_cleansing, rise_BN)
        return support, hat_BN2, self.qp(support, prepared.for_prediction)

    def _modulated(self, support: Tokens, is_foreground_BN: Tensor, prepared: _Prepared) -> Tokens:
        if isinstance(prepared.for_modulation, PreparedCells):
            return self.sm.modulate(support, prepared.for_modulation, is_foreground_BN)
        modulated: Tokens = self.sm(
            support, prepared.query, prepared.for_modulation, is_foreground_BN
        )
        return modulated

    def _foreground(self, logits_BN2: Tensor) -> Tensor:
        """Cells that a prediction calls foreground, bool B N."""
        probability_BN = logits_BN2.float().softmax(2)[:, :, 1]
        is_foreground_BN = probability_BN > self.options.foreground_threshold
        if self.options.empty_foreground == "keep":
            return is_foreground_BN
        # Where any cell is foreground the peak is one of them.
        peak_BN = functional.one_hot(probability_BN.argmax(1), probability_BN.shape[1]).bool()
        return is_foreground_BN | peak_BN

    def _query_cells(self, query_B3HW: Tensor, features_BChw: Tensor) -> QueryCells:
        colour_B3hw = pixels_to_cells(query_B3HW, self.grid(query_B3HW))
        normalised_B3hw = self.backbone.normalise(colour_B3hw)
        return QueryCells(_cells(features_BChw), _cells(colour_B3hw), _cells(normalised_B3hw))

    def _tokens(self, features_BNC: Tensor, is_member_BN: Tensor) -> Tokens:
        return (pack_in_place if self.has_fixed_shapes else pack)(features_BNC, is_member_BN)

    def _average_shots(
        self, query_B3HW: Tensor, query: Features, support: Features, support_mask_BKHW: Tensor
    ) -> Output:
        """Mean of the logits of K one-shot predictions."""
        outputs = [
            self.segment(
                query_B3HW,
                query,
                tuple(level[:, shot : shot + 1] for level in support),
                support_mask_BKHW[:, shot : shot + 1],
            )
            for shot in range(support_mask_BKHW.shape[1])
        ]
        rows = zip(*(output.auxiliary for output in outputs), strict=True)
        earlier = zip(*(output.earlier for output in outputs), strict=True)
        return Output(
            torch.stack([output.logits for output in outputs]).mean(0),
            outputs[0].grid,
            tuple((torch.stack([x for x, _ in row]).mean(0), row[0][1]) for row in rows),
            tuple(torch.stack(list(each)).mean(0) for each in earlier),
        )


def _neck(backbone: Backbone, options: AbcbOptions) -> ConvolutionNeck | CorrelationNeck:
    levels, scale = backbone.out_channels, options.cell_scale
    if options.neck == "convolution":
        return ConvolutionNeck(levels, options.channels, scale, options.neck_end)
    place_of = {level: place for place, level in enumerate(backbone.levels)}
    return CorrelationNeck(
        levels,
        options.channels,
        scale,
        joined=[place_of[level] for level in options.joined_levels],
        compared=[place_of[level] for level in options.compared_levels],
        dropout=options.neck_dropout,
    )


def _cells(grid_BChw: Tensor) -> Tensor:
    """B C h w as B N C."""
    return grid_BChw.flatten(2).transpose(1, 2)


def _shots_cells(grid_BKChw: Tensor) -> Tensor:
    """B K C h w as B (K N) C."""
    return grid_BKChw.permute(0, 1, 3, 4, 2).flatten(1, 3)


def _to_grid(cells_BNC: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """B N C as B C h w."""
    batch, _, channels = cells_BNC.shape
    return cells_BNC.transpose(1, 2).reshape(batch, channels, *size_hw)
