"""Episodes as batches, losses in parts, and what a few-shot result holds; no ranks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.fewshot import (
    ALONE,
    even_grid,
    fewshot_options,
    new_learner,
    new_method,
    task_without_data,
)

from experiments.fewshot.canvas import whole
from experiments.fewshot.episode_counts import EpisodeCounts
from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.episodes.transforms import (
    FitLongerSide,
    Squash,
    TrainTransform,
    restore_logits,
)
from experiments.fewshot.loading import EvalDataset, TrainBatch, TrainDataset, collate, share_images
from experiments.fewshot.metrics import IoUCounts
from experiments.fewshot.models.base import Output
from experiments.fewshot.models.losses import loss_terms
from experiments.fewshot.result import describe
from experiments.fewshot.showcase import choose_episodes
from experiments.fewshot.task import FewShotTask
from experiments.runtime.batches import apply_to_tensors, shares
from experiments.runtime.learner import load_trained_state, trained_state, weighted_sum
from experiments.runtime.stages import ParameterGroup


def counts_with(intersection: int) -> EpisodeCounts:
    row = [intersection, 10, 5, 10, 1]
    rows = np.array([row, row], np.int64)
    return EpisodeCounts((3, 4), np.array([3, 4]), rows)


@pytest.fixture(scope="module")
def scratch_model():
    torch.manual_seed(0)
    return new_method("prototype", "resnet18", from_scratch=True)


@pytest.fixture
def source():
    class Noise:
        """Two images of different sizes, each read counted."""

        def __init__(self) -> None:
            self.reads: list[str] = []

        def names(self, _image_list: str):
            return ("a", "bb")

        def image(self, name: str):
            self.reads.append(name)
            side = 40 + len(name)
            rng = np.random.default_rng(len(name))
            return rng.integers(0, 256, (side, side, 3), dtype=np.uint8)

        def mask(self, name: str):
            side = 40 + len(name)
            labels = np.zeros((side, side), np.uint8)
            labels[10:30, 10:30] = 7
            return labels

    return Noise()


def train_dataset(source, epoch=0):
    episodes = [Episode("a", 7, ("bb",)), Episode("bb", 7, ("a",))]
    return TrainDataset(share_images(source), episodes, TrainTransform(size=33), 0, epoch)


def tensors(batch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    apply_to_tensors(batch, found.append)
    return found


def test_a_sample_depends_on_seed_epoch_and_index_alone(source):
    dataset = train_dataset(source)
    first = collate([dataset[0], dataset[1]])
    again = collate([dataset[index] for index in (1, 0)])
    for one, other in zip(tensors(first), tensors(again), strict=True):
        assert torch.equal(one, other.flip(0))
    other_epoch = collate([train_dataset(source, 1)[i] for i in (0, 1)])
    assert not torch.equal(first.query.pixels, other_epoch.query.pixels)


def test_a_batch_has_the_shapes_that_models_take(source):
    batch = collate([train_dataset(source)[0]])
    assert batch.query.painted((0, 0, 0)).shape == (1, 3, 33, 33)
    assert batch.support.painted((0, 0, 0)).shape == (1, 1, 3, 33, 33)
    assert batch.support_mask.shape == (1, 1, 33, 33)
    assert batch.target.shape == (1, 33, 33)
    assert set(batch.target.unique().tolist()) <= {0, 1, 255}


def test_images_that_fit_are_decoded_once(source):
    dataset = train_dataset(source)
    once = [dataset[0] for _ in range(3)][-1]
    assert source.reads == ["a", "bb"]
    torch.testing.assert_close(once[0].image, train_dataset(source)[0][0].image)


@pytest.mark.parametrize("dice_weight", [0.0, 0.5])
def test_the_parts_of_the_ranks_average_to_the_loss_of_the_whole_batch(dice_weight):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 2, 5, 5, generator=generator)
    target = torch.randint(0, 2, (4, 5, 5), generator=generator).to(torch.uint8)
    target[:2, :, 3:] = 255
    numbers = [int((half != 255).sum()) for half in (target[:2], target[2:])]

    def loss(part: slice, share: float) -> torch.Tensor:
        grid = even_grid((5, 5), step=1)
        output = Output(logits[part], grid, ((logits[part] * 2, 0.3),))
        terms = loss_terms(output, target[part], dice_weight)
        return weighted_sum(terms, {"pixels": share, "episodes": 1.0})

    parts = [
        loss(part, 2 * number / sum(numbers))
        for part, number in zip((slice(0, 2), slice(2, 4)), numbers, strict=True)
    ]
    whole = loss(slice(0, 4), 1.0)
    torch.testing.assert_close(sum(parts) / 2, whole)


def frozen_batch_norm(model):
    """As with pretrained weights: no statistic of a batch enters its own result."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
            module.train = lambda _mode=True, frozen=module: frozen
    return model


def noise_batch(num_episodes: int) -> TrainBatch:
    generator = torch.Generator().manual_seed(1)
    batch = TrainBatch(
        whole(torch.rand(num_episodes, 3, 33, 33, generator=generator) * 255),
        whole(torch.rand(num_episodes, 1, 3, 33, 33, generator=generator) * 255),
        torch.randint(0, 2, (num_episodes, 1, 33, 33), generator=generator).to(torch.uint8),
        torch.randint(0, 2, (num_episodes, 33, 33), generator=generator).to(torch.uint8),
    )
    batch.target[0, :, 5:] = 255
    batch.target[-1] = 255
    return batch


@pytest.mark.parametrize("dice_weight", [0.0, 0.5])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 9])
def test_a_step_in_micro_batches_is_the_step_of_the_whole_batch(micro_batch, dice_weight):
    """5 episodes do not divide by 2, 3 or 4: the last window is shorter and weighs less."""

    def stepped(size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        model = frozen_batch_norm(new_method("prototype", "resnet18", from_scratch=True))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # Heads begin at zero, which would hide the gradients of what is below them.
                if not name.startswith("backbone"):
                    parameter.add_(0.1 * torch.randn_like(parameter))
        options = fewshot_options(dice_weight=dice_weight, momentum=0.0, weight_decay=0.0)
        learner = new_learner(model, options, ALONE, size)
        of_rank = {"pixels": 0.9, "episodes": 1.0}
        loss = learner.step(noise_batch(5), shares_of_rank=of_rank, lr=0.1)
        return loss, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    whole_loss, whole = stepped(0)
    loss, gradients = stepped(micro_batch)
    torch.testing.assert_close(loss, whole_loss)
    for name, gradient in whole.items():
        largest = gradient.abs().max()
        assert largest > 0, name
        assert (gradients[name] - gradient).abs().max() < 1e-4 * largest, name


def test_the_parts_of_a_batch_are_all_of_it_in_order():
    task = task_without_data(fewshot_options())
    batch = noise_batch(5)
    parts = task.split(batch, 2)
    assert [len(part.target) for part in parts] == [2, 2, 1]
    whole = task.weights(batch)
    of_parts = [shares(task.weights(part), whole) for part in parts]
    for name in ("pixels", "episodes"):
        assert sum(each[name] for each in of_parts) == pytest.approx(1)
    for tensor, *pieces in zip(tensors(batch), *map(tensors, parts), strict=True):
        assert torch.equal(torch.cat(pieces), tensor)


def test_an_evaluation_on_several_test_seeds_is_their_mean_and_keeps_each():
    one, other = counts_with(4), counts_with(6)
    details = describe({"epoch": 2}, (one, other), has_interval=True)
    assert details["std"]["miou"] == pytest.approx(0.02**0.5)
    assert details["std"]["fb_iou"] == pytest.approx(0.02**0.5 / 2)
    kept = [IoUCounts.from_json(entry["counts"]).miou() for entry in details["by_test_seed"]]
    assert kept == [entry["miou"] for entry in details["by_test_seed"]] == [0.4, 0.6]


def test_an_evaluation_on_one_test_seed_has_no_spread():
    details = describe({"epoch": 2, "miou": 0.4}, (counts_with(4),), has_interval=True)
    assert details["miou"] == 0.4
    assert details["counts"] == counts_with(4).total().to_json()
    assert details["bootstrap"]["episodes"] == [2]
    assert details.keys().isdisjoint({"std", "by_test_seed"})


def test_what_an_untrained_model_scores_has_no_interval():
    assert "bootstrap" not in describe({"epoch": 0}, (counts_with(4),), has_interval=False)


@pytest.mark.parametrize("transform", [Squash(size=33), FitLongerSide(size=33)])
@pytest.mark.parametrize("is_original", [True, False])
def test_predictions_are_counted_at_the_size_of_the_truth(source, transform, is_original):
    dataset = EvalDataset(
        share_images(source), [Episode("a", 7, ("bb",))], transform, is_original_size=is_original
    )
    item = dataset[0]
    side = 41 if is_original else 33
    assert item.truth.shape == (side, side)
    assert 0 < (item.truth == 1).mean() < 1
    placed = restore_logits(torch.zeros(1, 2, 33, 33), item.placement)
    assert placed.shape == (1, 2, side, side)


def test_a_resized_truth_has_no_padding(source):
    source.mask = lambda _: np.zeros((20, 40), np.uint8)
    source.image = lambda _: np.zeros((20, 40, 3), np.uint8)
    episodes = [Episode("a", 7, ("bb",))]
    dataset = EvalDataset(share_images(source), episodes, FitLongerSide(size=20), False)
    assert dataset[0].truth.tolist() == np.zeros((10, 20)).tolist()


def test_panels_show_the_classes_in_turn():
    episodes = [Episode(f"{n}", c, ("s",)) for n, c in enumerate([1, 1, 1, 2, 2, 3])]
    assert choose_episodes(episodes, 4) == [0, 1, 3, 5]
    assert choose_episodes(episodes, 0) == []
    assert choose_episodes(episodes, 99) == [0, 1, 2, 3, 4, 5]


def test_a_step_changes_what_is_trained_and_a_saved_state_brings_it_back(scratch_model, source):
    options = fewshot_options(lr=0.1)
    task, learner = task_without_data(options), new_learner(scratch_model, options, ALONE)
    before = {name: value.clone() for name, value in trained_state(task, scratch_model).items()}
    assert any(name.startswith("backbone.") for name in before)
    batch = collate([train_dataset(source)[0], train_dataset(source)[1]])
    learner.step(batch, shares_of_rank={"pixels": 1.0, "episodes": 1.0}, lr=0.1)
    changed = trained_state(task, scratch_model)
    assert any(not torch.equal(changed[name], before[name]) for name in before)
    load_trained_state(task, scratch_model, before)
    after = trained_state(task, scratch_model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_all_but_the_backbone_may_learn_at_a_rate_of_their_own():
    context = SimpleNamespace(weights=None)
    options = fewshot_options(method="prototype", head_rate_factor=10.0, epochs=2)
    task = FewShotTask(options, context, None)
    model = task.build_model(torch.device("cpu"))
    (group,) = task.stages()[0].groups
    assert group == ParameterGroup(parts=("head", "project", "scale"), rate_factor=10.0)
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == set(group.parts)
    assert task_without_data(fewshot_options()).stages()[0].groups == ()
