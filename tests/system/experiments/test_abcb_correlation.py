"""The correlation neck: its budget, its priors, its matching, and what an episode depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.fewshot import new_method
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.fewshot.canvas import whole
from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.episodes.transforms import Placement
from experiments.fewshot.feature_cache import FeatureCache
from experiments.fewshot.loading import EvalItem
from experiments.fewshot.models.abcb import prior
from experiments.fewshot.models.abcb.correlation import CorrelationNeck
from experiments.fewshot.models.abcb.matching import Block, HierarchicalMatching
from experiments.fewshot.models.base import predict
from experiments.fewshot.predict import Predictor

pytestmark = pytest.mark.system

SIDE = 7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _neck(**options: Any) -> CorrelationNeck:
    chosen = {"joined": (0, 1), "compared": (2,), "dropout": 0.0, **options}
    neck = CorrelationNeck((6, 10, 12), 32, "unit", **chosen)
    torch.nn.init.normal_(neck.fuse.weight)
    return neck


def _episodes(
    batch: int = 2, shots: int = 2
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
    query = tuple(torch.randn(batch, channels, SIDE, SIDE) for channels in (6, 10, 12))
    support = tuple(torch.randn(batch, shots, channels, SIDE, SIDE) for channels in (6, 10, 12))
    is_member = torch.rand(batch, shots, SIDE, SIDE) < 0.3
    return query, support, is_member


# ---------------------------------------------------------------- budget


@pytest.mark.parametrize(("iterations", "published"), [(1, 27.6), (3, 33.5)])
def test_parameters_are_the_papers(iterations: int, published: float) -> None:
    with torch.device("meta"):
        model = new_method("abcb", "resnet50", from_scratch=True, abcb_iterations=iterations)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(published, rel=0.015)


def test_multiplications_of_the_baseline_are_the_papers() -> None:
    """At 121 px, a sixteenth of the cells of 473 px: what grows with their square is counted so."""
    side, full = 15, 60
    with torch.device("meta"):
        backbone = new_method("abcb", "resnet50", from_scratch=True).backbone
        with FlopCounterMode(display=False) as of_backbone:
            backbone(torch.empty(1, 3, 473, 473))
    neck = CorrelationNeck(
        (512, 1024, 2048), 512, "unit", joined=(0, 1), compared=(2,), dropout=0.0
    ).eval()
    query = tuple(torch.randn(1, channels, side, side) for channels in (512, 1024, 2048))
    support = tuple(level[:, None] for level in query)
    with torch.no_grad(), FlopCounterMode(display=False) as of_neck:
        neck(query, support, torch.ones(1, 1, side, side, dtype=torch.bool))
    counts = {str(op): flops / 2e9 for op, flops in of_neck.get_flop_counts()["Global"].items()}
    quadratic = sum(n for op, n in counts.items() if "bmm" in op or "attention" in op)
    linear = sum(counts.values()) - quadratic
    scale = (full / side) ** 2
    neck_macs = linear * scale + quadratic * scale**2
    qp_macs = 3600 * (512 * 512 + 2 * 512) / 1e9
    total = 2 * of_backbone.get_total_flops() / 2e9 + neck_macs + qp_macs
    assert neck_macs == pytest.approx(37.4, rel=0.02)
    assert total == pytest.approx(210.3, rel=0.02)


# ---------------------------------------------------------------- priors


def _prior_written_down(query: Tensor, support: Tensor, is_member: Tensor) -> Tensor:
    batch, shots = support.shape[:2]
    rows = torch.zeros(batch, 1, SIDE, SIDE)
    for b in range(batch):
        shown = [k for k in range(shots) if is_member[b, k].any()]
        for y in range(SIDE):
            for x in range(SIDE):
                q = query[b, :, y, x]
                for k in shown:
                    members = support[b, k][:, is_member[b, k]]
                    cosines = (q @ members) / (q.norm() * members.norm(dim=0))
                    rows[b, 0, y, x] += max(0.0, float(cosines.max())) / len(shown)
    return rows


@pytest.mark.parametrize("form", ["_of_members", "_dense"])
@pytest.mark.parametrize("tile", [1, 2**22])
def test_the_prior_is_the_greatest_cosine_with_the_supports_foreground(
    form: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, support, is_member = _episodes(batch=2, shots=3)
    is_member[0, 1] = False
    monkeypatch.setattr(prior, "_of_members", getattr(prior, form))
    monkeypatch.setattr(prior, "_TILE", tile)
    found = prior.prior_similarity(query[2], support[2], is_member)
    torch.testing.assert_close(found, _prior_written_down(query[2], support[2], is_member))


def test_without_any_foreground_the_prior_is_zero_and_has_a_gradient() -> None:
    query, support, is_member = _episodes()
    leaf = query[2].requires_grad_()
    found = prior.prior_similarity(leaf, support[2], torch.zeros_like(is_member))
    assert torch.equal(found, torch.zeros(2, 1, SIDE, SIDE))
    found.sum().backward()
    assert torch.equal(leaf.grad, torch.zeros_like(leaf))


# ---------------------------------------------------------------- matching


def test_the_matching_looks_at_the_supports_foreground_alone() -> None:
    block, query = Block(64, 2), torch.randn(2, 64, SIDE, SIDE)
    support = torch.randn(2, 3, 64, SIDE, SIDE)
    is_member = torch.rand(2, 3, SIDE, SIDE) < 0.3
    other = torch.where(is_member[:, :, None], support, torch.randn_like(support))
    found = block.match(query, support, is_member)
    torch.testing.assert_close(block.match(query, other, is_member), found)
    assert not torch.allclose(block.match(query, -support, is_member), found)


def test_a_query_without_any_foreground_to_match_keeps_what_it_has() -> None:
    block, query = Block(64, 2), torch.randn(1, 64, SIDE, SIDE)
    nothing = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    one, other = (block.match(query, torch.randn(1, 1, 64, SIDE, SIDE), nothing) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("side", [1, 2, 5, 7, 20])
def test_every_side_goes_through_the_three_stages(side: int) -> None:
    matching = HierarchicalMatching(1).eval()
    query, support = torch.randn(1, 64, side, side), torch.randn(1, 1, 64, side, side)
    is_member = torch.ones(1, 1, side, side, dtype=torch.bool)
    fused = matching(query, support, torch.rand(1, 1, side, side), is_member)
    assert fused.shape == query.shape
    assert fused.isfinite().all()


# ---------------------------------------------------------------- the neck


def test_cells_have_a_mean_square_of_one_whatever_the_backbones_scale() -> None:
    neck, (query, support, is_member) = _neck(), _episodes()
    f_q, f_s = neck(query, support, is_member)
    assert (f_q.shape, f_s.shape) == ((2, 32, SIDE, SIDE), (2, 2, 32, SIDE, SIDE))
    torch.testing.assert_close(f_q.square().mean(1), torch.ones(2, SIDE, SIDE))
    torch.testing.assert_close(f_s.square().mean(2), torch.ones(2, 2, SIDE, SIDE))
    scaled = neck(
        tuple(level * 30 for level in query), tuple(level / 9 for level in support), is_member
    )
    torch.testing.assert_close(scaled, (f_q, f_s), rtol=1e-3, atol=1e-4)


def test_dropout_takes_the_same_channels_from_a_query_and_its_supports() -> None:
    neck, (query, _, is_member) = _neck(dropout=0.5), _episodes(shots=1)
    neck.start_faithful()
    support = tuple(level[:, None] for level in query)
    f_q, f_s = neck.train()(query, support, is_member)
    torch.testing.assert_close(f_q, f_s[:, 0])
    again, _ = neck(query, support, is_member)
    assert not torch.allclose(again, f_q)
    torch.testing.assert_close(
        neck.eval()(query, support, is_member), neck(query, support, is_member)
    )


def test_at_the_start_query_and_support_meet_in_the_same_space() -> None:
    neck, (query, _, is_member) = _neck(), _episodes(shots=1)
    neck.start_faithful()
    f_q, f_s = neck(query, tuple(level[:, None] for level in query), is_member)
    torch.testing.assert_close(f_q, f_s[:, 0])


def test_features_of_one_episode_depend_on_its_supports_and_on_no_other_episode() -> None:
    neck, (query, support, is_member) = _neck(), _episodes(batch=3)
    together, _ = neck(query, support, is_member)
    alone, _ = neck(
        tuple(x[1:2] for x in query), tuple(x[1:2].flip(1) for x in support), is_member[1:2].flip(1)
    )
    torch.testing.assert_close(alone, together[1:2], rtol=1e-3, atol=1e-4)
    others = tuple(torch.randn_like(x) for x in support)
    assert not torch.allclose(neck(query, others, is_member)[0], together, atol=1e-2)


# ---------------------------------------------------------------- supports under their masks


def _item(class_id: int, columns: slice) -> EvalItem:
    generator = torch.Generator().manual_seed(5)
    query, support = torch.rand(2, 3, 64, 64, generator=generator) * 255
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[:, 8:40, columns] = 1
    place = Placement((64, 64), (64, 64), (64, 64))
    episode = Episode("query", class_id, ("support",))
    images = whole(query), whole(support[None])
    return EvalItem(0, episode, *images, mask, place, mask[0].numpy())


@pytest.mark.parametrize("support_image", ["whole", "masked"])
def test_kept_features_of_a_support_serve_another_class_only_if_they_see_the_whole_image(
    support_image: str,
) -> None:
    options = {"abcb_channels": 16, "abcb_num_heads": 2, "abcb_support_image": support_image}
    model = new_method("abcb", "efficientnet_lite0", **options).eval()
    cache, cpu = FeatureCache(64), torch.device("cpu")
    for item in (_item(1, slice(0, 24)), _item(2, slice(32, 64))):
        kept, anew = (
            Predictor(model, cpu, each, model.mean_rgb).mask(item)
            for each in (cache, FeatureCache(0))
        )
        assert (kept == anew).all()
        query, support = (each.painted(model.mean_rgb) for each in (item.query, item.support))
        with torch.no_grad():
            at_once = model(query[None], support[None], item.support_mask[None])
        assert ((predict(at_once.logits, at_once.grid)[0].numpy() != kept).mean()) < 0.01
    assert cache.num_encoded == {"whole": 2, "masked": 3}[support_image]


def test_what_is_hidden_of_a_support_is_zero_to_the_backbone() -> None:
    options = {"abcb_channels": 16, "abcb_num_heads": 2, "abcb_support_image": "masked"}
    model = new_method("abcb", "efficientnet_lite0", **options)
    item = _item(1, slice(0, 24))
    support = item.support.painted(model.mean_rgb)
    shown = model.shown_supports(support[None], item.support_mask[None])[0]
    is_object = item.support_mask[:, None].expand_as(shown) == 1
    assert torch.equal(shown[is_object], support[is_object])
    assert not model.backbone.normalise(shown)[~is_object].any()
