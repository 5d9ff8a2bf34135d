"""Encoder, decoder and losses, with the smallest of timm's models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from experiments.camouflage.data.loading import EvalItem, TrainBatch
from experiments.camouflage.encoder import build_encoder
from experiments.camouflage.losses import loss_terms, rim_weights, structure_loss
from experiments.camouflage.model import CamouflageModel, Maps, build_model
from experiments.camouflage.options import BackboneOptions, DecoderOptions, Options
from experiments.camouflage.tally import ImageTally
from experiments.camouflage.task import CamouflageTask
from experiments.runtime.entry import NonFiniteError
from experiments.runtime.options import RuntimeOptions
from merge.errors import DataError, UsageError

SMALL = DecoderOptions(channels=8, num_experts=3, expert_width=8)


def small_model(backbone="test_convnext", **runtime) -> CamouflageModel:
    torch.manual_seed(0)
    options = Options(
        encoder=BackboneOptions(backbone=backbone, from_scratch=True),
        decoder=SMALL,
        runtime=RuntimeOptions(**runtime),
    )
    return build_model(options, None)


def batch(size=64, num_images=3):
    torch.manual_seed(1)
    images = torch.randint(0, 256, (num_images, 3, size, size), dtype=torch.uint8)
    truth = (images.float().mean(1, keepdim=True) > 140).to(torch.uint8)
    return TrainBatch(images, truth)


def gradients(model: nn.Module, data: TrainBatch, parts: int = 1):
    model.zero_grad()
    for images, truth in zip(data.image.chunk(parts), data.truth.chunk(parts), strict=True):
        terms = loss_terms(model(images), truth, 0.01)
        (sum(term.value * term.factor for term in terms) / parts).backward()
    return {name: each.grad.clone() for name, each in model.named_parameters()}


def test_every_parameter_has_a_gradient_and_no_number_depends_on_the_parts_of_a_batch():
    """One GPU that accumulates takes the step of two GPUs."""
    model, data = small_model().train(), batch(num_images=4)
    whole, parted = gradients(model, data), gradients(model, data, parts=4)
    assert all(each.abs().sum() > 0 for name, each in whole.items() if "head" in name)
    for name, each in whole.items():
        assert torch.allclose(each, parted[name], atol=2e-5), name


@pytest.mark.parametrize("size", [64, 75])
def test_levels_follow_the_size_of_the_image(size):
    maps = small_model().eval()(torch.zeros(1, 3, size, size))
    assert isinstance(maps, Maps)
    sizes = [tuple(each.shape[-2:]) for each in maps.logits]
    assert sizes == [(size // stride,) * 2 for stride in (4, 8, 16, 32)]


def test_checkpointed_activations_change_no_gradient_and_save_memory():
    data, found, kept = batch(), {}, {}
    for saves in (False, True):
        model = small_model(checkpoint_activations=saves).train()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: (sizes.append(t.numel()), t)[1], lambda t: t
        ):
            maps = model(data.image)
        kept[saves] = sum(sizes)
        sum(term.value for term in loss_terms(maps, data.truth, 0.01)).backward()
        found[saves] = [each.grad for each in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(found[False], found[True], strict=True))
    assert kept[True] < kept[False] / 2, kept


def test_a_block_is_computed_again_only_when_the_next_one_has_its_gradients():
    """All blocks computed again at once would need as much memory as a plain pass."""
    model = small_model(checkpoint_activations=True).train()
    first, last = (model.encoder.features[f"stages_{stage}"].blocks[0] for stage in (0, 3))
    seen: list[bool] = []
    weight = next(last.parameters())
    next(first.children()).register_forward_pre_hook(
        lambda *_: seen.append(weight.grad is not None)
    )
    maps = model(batch().image)
    sum(term.value for term in loss_terms(maps, batch().truth, 0.01)).backward()
    assert seen == [False, True]


def test_the_structure_loss_weighs_pixels_near_the_rim():
    truth = torch.zeros(2, 1, 40, 40)
    truth[0, :, 10:30, 10:30] = 1
    weights = rim_weights(truth)
    assert weights[1].unique().tolist() == [1]
    assert weights[0, 0, 10, 10] > weights[0, 0, 20, 20] > 1
    logits = torch.randn(2, 1, 40, 40)
    for image in range(2):
        w, t, x = weights[image, 0], truth[image, 0], logits[image, 0].double()
        p = x.sigmoid()
        entropy = -(w * (t * p.log() + (1 - t) * (1 - p).log())).sum() / w.sum()
        both, either = (w * p * t).sum(), (w * (p + t - p * t)).sum()
        iou = 1 - ((w * p * t).sum() + 1) / ((w * (p + t)).sum() - both + 1)
        assert either > 0
        expected = float(entropy + iou)
        assert float(structure_loss(logits, truth, weights)[image]) == pytest.approx(
            expected, rel=1e-4
        )


@pytest.mark.parametrize("backbone", ["edgenext_xx_small", "test_efficientnet"])
def test_a_weight_file_of_timm_is_loaded_strictly_and_named_in_the_result(tmp_path, backbone):
    """Of the first one timm renames the parts for its features-only form."""
    torch.manual_seed(3)
    whole = timm.create_model(backbone, pretrained=False).eval()
    path = tmp_path / f"{backbone}.pth"
    torch.save(whole.state_dict(), path)
    encoder = build_encoder(backbone, weights=tmp_path, from_scratch=False).eval()
    assert encoder.weights_id.startswith(f"{backbone}.pth sha256:")
    images = torch.rand(1, 3, 64, 64) * 255
    mean, std = (torch.tensor(whole.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = whole.forward_intermediates((images / 255 - mean) / std, intermediates_only=True)
    assert torch.allclose(encoder(images)[-1], expected[-1], atol=1e-4)
    state = whole.state_dict()
    state.pop(next(name for name in state if name.startswith(("stages.1", "blocks.1"))))
    torch.save(state, path)
    with pytest.raises(DataError, match="does not fit this backbone: 1 missing"):
        build_encoder(backbone, weights=path, from_scratch=False)


def test_a_backbone_without_weights_or_of_no_use_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"edgenext_base.pth is in none of.*pretrained=True"):
        build_encoder("edgenext_base", weights=None, from_scratch=False)
    with pytest.raises(UsageError, match="no model 'edgenext_bas': nearest are edgenext_base"):
        build_encoder("edgenext_bas", weights=None, from_scratch=True)
    with pytest.raises(UsageError, match="needs a pyramid"):
        build_encoder("test_vit", weights=None, from_scratch=True)
    with pytest.raises(UsageError, match="exclude each other"):
        build_encoder("test_vit", weights=tmp_path, from_scratch=True)
    with pytest.raises(UsageError, match="top_k=4 is more than num_experts=3: lower top_k"):
        replace(SMALL, top_k=4).check()


def test_pretrained_batch_norm_keeps_its_statistics(tmp_path):
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "w.pth")
    encoder = build_encoder("test_resnet", weights=tmp_path / "w.pth", from_scratch=False).train()
    before = {name: each.clone() for name, each in encoder.named_buffers()}
    encoder(torch.rand(2, 3, 64, 64) * 255)
    assert all(torch.equal(each, before[name]) for name, each in encoder.named_buffers())
    scratch = build_encoder("test_resnet", weights=None, from_scratch=True).train()
    assert any(m.training for m in scratch.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
def test_a_destroyed_model_has_no_map(logit):
    """As a PNG its map is black, and a black map has scores."""

    def destroyed(images):
        return Maps((torch.full((len(images), 1, 16, 16), logit),), torch.zeros(len(images)))

    item = EvalItem(torch.zeros(3, 64, 64, dtype=torch.uint8), np.ones((8, 8), bool))
    task = object.__new__(CamouflageTask)
    with pytest.raises(NonFiniteError, match="a logit is NaN or infinite"):
        task.predict_chunk(destroyed, [item], torch.device("cpu"))


class Stripes(nn.Module):
    """Finds the right half of every image, whatever it shows."""

    def forward(self, images):
        logits = torch.full((len(images), 1, 16, 16), -20.0)
        logits[..., 8:] = 20.0
        return Maps((logits,), torch.zeros(len(images)))


def test_a_map_is_scored_at_the_size_of_the_image_and_not_of_the_model():
    """A rim of one pixel of the image is lost at 64: its error would be lost with it."""
    truth = np.zeros((100, 202), bool)
    truth[:, 101:] = True
    truth[:, 1:100:2] = True
    item = EvalItem(torch.zeros(3, 64, 64, dtype=torch.uint8), truth)
    task = object.__new__(CamouflageTask)
    (found,) = task.predict_chunk(Stripes(), [item], torch.device("cpu"))
    assert found.shape == truth.shape
    tally = ImageTally(1)
    tally.add(0, found, item)
    mae = tally.metrics(tally.state())["mae"]
    assert mae == pytest.approx(50 / 202, abs=0.005)
    shrunk = np.asarray(Image.fromarray(truth).resize((64, 64), Image.Resampling.NEAREST))
    at_model_size = (shrunk != (np.arange(64) >= 32)).mean()
    assert abs(at_model_size - mae) > 0.01
