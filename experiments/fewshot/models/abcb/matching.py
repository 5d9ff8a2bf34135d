"""Hierarchical matching of a query with its supports, as HDMNet describes it, written anew.

Three stages at 1, 1/2 and 1/4 of the resolution. In each, two blocks of self-attention work on
query and supports with the same weights; then the query attends to the supports' foreground cells,
and the result is joined with the prior similarities. Decoding goes from coarse to fine.

Shapes: B episodes, K shots, h w cells, W = 64 channels, P priors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.fewshot.models.abcb.layers import masked_attention
from experiments.fewshot.models.abcb.packed import fused_attention

WIDTH = 64
_STAGES = ((2, 4), (4, 2), (8, 1))
"""Heads and spatial reduction of keys in the self-attention of each stage."""
_MATCH_HEADS = 2
_EXPANSION = 4
_NORM_GROUPS = 8


class Block(nn.Module):
    """Attention, then a feed-forward part with a depth-wise convolution; each after a LayerNorm.

    With `reduction` r, keys and values are r x r cells joined by a convolution.
    """

    def __init__(self, width: int, num_heads: int, reduction: int = 1) -> None:
        super().__init__()
        self.num_heads, self.reduction = num_heads, reduction
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query, self.to_key, self.to_value, self.to_out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, stride=reduction)
            self.after_reduce = nn.LayerNorm(width)
        hidden = _EXPANSION * width
        self.feed = nn.Sequential(
            nn.Conv2d(width, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Conv2d(hidden, width, 1),
        )

    def forward(self, x_BWhw: Tensor) -> Tensor:
        """Self-attention; B W h w as it came."""
        normed_BWhw = _normed(x_BWhw, self.before_attention)
        keys_BMW = _tokens(self._reduced(normed_BWhw))
        found_BNW = self._attended(_tokens(normed_BWhw), keys_BMW, None)
        return self._fed(x_BWhw + _as_map(found_BNW, x_BWhw))

    def match(self, query_BWhw: Tensor, support_BKWhw: Tensor, is_member_BKhw: Tensor) -> Tensor:
        """Attention from the query to all shots' foreground; to nothing where none has any."""
        normed_BNW = _tokens(_normed(query_BWhw, self.before_attention))
        support_BMW = self.before_attention(support_BKWhw.permute(0, 1, 3, 4, 2).flatten(1, 3))
        is_member_BM = is_member_BKhw.flatten(1)
        found_BNW = self._attended(normed_BNW, support_BMW, is_member_BM)
        found_BNW = found_BNW * is_member_BM.any(1)[:, None, None]
        return self._fed(query_BWhw + _as_map(found_BNW, query_BWhw))

    def _attended(self, query_BNW: Tensor, keys_BMW: Tensor, is_real_BM: Tensor | None) -> Tensor:
        layers = ((self.to_query, query_BNW), (self.to_key, keys_BMW), (self.to_value, keys_BMW))
        q, k, v = (self._heads(layer(x)) for layer, x in layers)
        if is_real_BM is None:
            with fused_attention(q):
                found_BHND = functional.scaled_dot_product_attention(q, k, v)
        else:
            found_BHND = masked_attention(q, k, v, is_real_BM)
        out_BNW: Tensor = self.to_out(found_BHND.transpose(1, 2).flatten(2))
        return out_BNW

    def _heads(self, x_BNW: Tensor) -> Tensor:
        batch, length, _ = x_BNW.shape
        return x_BNW.view(batch, length, self.num_heads, -1).transpose(1, 2)

    def _reduced(self, x_BWhw: Tensor) -> Tensor:
        if self.reduction == 1:
            return x_BWhw
        height, width = x_BWhw.shape[-2:]
        missing = -width % self.reduction, -height % self.reduction
        reduced = self.reduce(functional.pad(x_BWhw, (0, missing[0], 0, missing[1])))
        return _normed(reduced, self.after_reduce)

    def _fed(self, x_BWhw: Tensor) -> Tensor:
        fed_BWhw: Tensor = x_BWhw + self.feed(_normed(x_BWhw, self.before_feed))
        return fed_BWhw


class Stage(nn.Module):
    """One resolution: an embedding, two blocks, the matching, and its part of the decoder."""

    def __init__(self, num_priors: int, num_heads: int, reduction: int, *, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        kernel, stride, padding = (1, 1, 0) if is_first else (3, 2, 1)
        self.embed = nn.Conv2d(WIDTH, WIDTH, kernel, stride, padding)
        self.after_embed, self.after_blocks = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.blocks = nn.Sequential(*(Block(WIDTH, num_heads, reduction) for _ in range(2)))
        self.matching = Block(WIDTH, _MATCH_HEADS)
        self.join = nn.Sequential(
            nn.Conv2d(WIDTH + num_priors, WIDTH, 3, padding=1, bias=False), _norm(WIDTH), nn.ReLU()
        )
        self.decode = _decoder()

    def attend(self, x_BWhw: Tensor) -> Tensor:
        """The features of query or support at this stage's resolution."""
        embedded = _normed(self.embed(x_BWhw), self.after_embed)
        return _normed(self.blocks(embedded), self.after_blocks)


@dataclass(frozen=True, slots=True)
class _Level:
    """What the decoder meets at one resolution."""

    stage: Stage
    query: Tensor
    """B W h w."""
    support: Tensor
    """B K W h w."""
    prior: Tensor
    """B P h w."""
    is_member: Tensor
    """B K h w."""

    def decoded(self, coarser_BWhw: Tensor | None) -> Tensor:
        found_BWhw = self.stage.matching.match(self.query, self.support, self.is_member)
        clues = [found_BWhw, self.prior.to(found_BWhw.dtype)]
        joined_BWhw: Tensor = self.stage.join(torch.cat(clues, dim=1))
        if coarser_BWhw is None:
            coarsest: Tensor = self.stage.decode(joined_BWhw)
            return coarsest
        before_BWhw = _finer(coarser_BWhw, joined_BWhw)
        decoded: Tensor = before_BWhw + self.stage.decode(joined_BWhw + before_BWhw)
        return decoded


class HierarchicalMatching(nn.Module):
    """Query, supports, priors and the supports' foreground to B W h w of fused features."""

    def __init__(self, num_priors: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Stage(num_priors, heads, reduction, is_first=place == 0)
            for place, (heads, reduction) in enumerate(_STAGES)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, query_BWhw: Tensor, support_BKWhw: Tensor, prior_BPhw: Tensor, is_member_BKhw: Tensor
    ) -> Tensor:
        """Fused features of the query's cells."""
        fused_BWhw: Tensor | None = None
        for level in reversed(self._levels(query_BWhw, support_BKWhw, prior_BPhw, is_member_BKhw)):
            fused_BWhw = level.decoded(fused_BWhw)
        assert fused_BWhw is not None
        return fused_BWhw

    def _levels(
        self, query: Tensor, support_BKWhw: Tensor, prior: Tensor, is_member: Tensor
    ) -> list[_Level]:
        batch, shots = support_BKWhw.shape[:2]
        support = support_BKWhw.flatten(0, 1)
        levels = []
        for stage in self.stages:
            assert isinstance(stage, Stage)
            if not stage.is_first:
                prior, is_member = _coarser_prior(prior), _coarser_members(is_member)
            query, support = stage.attend(query), stage.attend(support)
            of_shots = support.view(batch, shots, *support.shape[1:])
            levels.append(_Level(stage, query, of_shots, prior, is_member))
        return levels


def _decoder() -> nn.Sequential:
    hidden = _EXPANSION * WIDTH
    return nn.Sequential(
        nn.Conv2d(WIDTH, hidden, 1),
        _norm(hidden),
        nn.Conv2d(hidden, hidden, 3, padding=1),
        _norm(hidden),
        nn.Conv2d(hidden, WIDTH, 1),
        _norm(WIDTH),
        nn.ReLU(),
    )


def _norm(channels: int) -> nn.GroupNorm:
    """HDMNet has batch norm here; with it, an episode would depend on the others of its batch."""
    return nn.GroupNorm(_NORM_GROUPS, channels)


def _coarser_prior(prior_BPhw: Tensor) -> Tensor:
    return functional.avg_pool2d(prior_BPhw, 3, stride=2, padding=1, count_include_pad=False)


def _coarser_members(is_member_BKhw: Tensor) -> Tensor:
    """A cell is foreground where its window has any, so that no object is lost."""
    return functional.max_pool2d(is_member_BKhw.float(), 3, stride=2, padding=1) > 0


def _finer(coarser_BWhw: Tensor, like_BWhw: Tensor) -> Tensor:
    """Bilinear to twice the resolution: a coarse cell lies on every second fine one."""
    height, width = coarser_BWhw.shape[-2:]
    between = functional.interpolate(
        coarser_BWhw, size=(2 * height - 1, 2 * width - 1), mode="bilinear", align_corners=True
    )
    missing = [x - y for x, y in zip(like_BWhw.shape[:1:-1], between.shape[:1:-1], strict=True)]
    return functional.pad(between, (0, missing[0], 0, missing[1]), mode="replicate")


def _normed(x_BWhw: Tensor, norm: nn.Module) -> Tensor:
    normed_BhwW: Tensor = norm(x_BWhw.permute(0, 2, 3, 1))
    return normed_BhwW.permute(0, 3, 1, 2)


def _tokens(x_BWhw: Tensor) -> Tensor:
    return x_BWhw.flatten(2).transpose(1, 2)


def _as_map(x_BNW: Tensor, like_BWhw: Tensor) -> Tensor:
    return x_BNW.transpose(1, 2).reshape(like_BWhw.shape)
