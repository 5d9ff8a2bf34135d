"""The parts of the few-shot trainer that need no ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.fewshot.config import FewShotConfig
from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.episodes.transforms import (
    FitLongerSide,
    Squash,
    TrainTransform,
    restore_logits,
)
from experiments.fewshot.learner import (
    Learner,
    divide,
    global_loss,
    load_trained_state,
    poly_lr,
    trained_state,
)
from experiments.fewshot.loading import EvalDataset, ImageCache, TrainBatch, TrainDataset, collate
from experiments.fewshot.metrics import IoUCounts
from experiments.fewshot.models.base import Output
from experiments.fewshot.models.registry import build_model
from experiments.fewshot.progress import Evaluation, Progress
from experiments.fewshot.showcase import choose_episodes
from experiments.runtime.distributed import Ranks
from experiments.runtime.entry import NonFiniteLossError
from experiments.runtime.meter import LossMeter
from experiments.runtime.precision import Precision

CPU = torch.device("cpu")
ALONE = Ranks(0, 0, 1, CPU)


def counts_with(intersection: int) -> IoUCounts:
    row = [intersection, 10, 5, 10, 1]
    return IoUCounts((3, 4), np.array([row, row], np.int64))


@pytest.fixture(scope="module")
def scratch_model():
    torch.manual_seed(0)
    return build_model("prototype", "resnet18", from_scratch=True)


@pytest.fixture
def source():
    class Noise:
        """Two images of different sizes, each read counted."""

        def __init__(self) -> None:
            self.reads: list[str] = []

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
    return TrainDataset(ImageCache(source), episodes, TrainTransform(size=33), 0, epoch)


def test_a_sample_depends_on_seed_epoch_and_index_alone(source):
    dataset = train_dataset(source)
    first = collate([dataset[0], dataset[1]])
    again = collate([dataset[index] for index in (1, 0)])
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other.flip(0))
    assert not torch.equal(first.query, collate([train_dataset(source, 1)[i] for i in (0, 1)])[0])


def test_a_batch_has_the_shapes_that_models_take(source):
    batch = collate([train_dataset(source)[0]])
    assert batch.query.shape == (1, 3, 33, 33)
    assert batch.support.shape == (1, 1, 3, 33, 33)
    assert batch.support_mask.shape == (1, 1, 33, 33)
    assert batch.target.shape == (1, 33, 33)
    assert set(batch.target.unique().tolist()) <= {0, 1, 255}


def test_images_that_fit_are_decoded_once(source):
    dataset = train_dataset(source)
    for _ in range(3):
        dataset[0]
    assert source.reads == ["a", "bb"]


@given(st.integers(1, 99), st.floats(0.1, 2))
def test_poly_starts_at_lr_and_falls_with_every_step(num_steps, power):
    config = FewShotConfig(lr=0.5, poly_power=power)
    rates = [poly_lr(config, step, num_steps) for step in range(num_steps)]
    assert rates[0] == 0.5
    assert rates == sorted(set(rates), reverse=True)
    assert rates[-1] > 0


def test_a_poly_power_of_zero_keeps_the_rate():
    assert poly_lr(FewShotConfig(lr=0.5, poly_power=0), 9, 10) == 0.5


@pytest.mark.parametrize("dice_weight", [0.0, 0.5])
def test_the_parts_of_the_ranks_average_to_the_loss_of_the_whole_batch(dice_weight):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 2, 5, 5, generator=generator)
    target = torch.randint(0, 2, (4, 9, 9), generator=generator).to(torch.uint8)
    target[:2, :, 3:] = 255
    numbers = [int((half != 255).sum()) for half in (target[:2], target[2:])]
    parts = [
        global_loss(
            Output(logits[part], ((logits[part] * 2, 0.3),)),
            target[part],
            2 * number / sum(numbers),
            dice_weight,
        )
        for part, number in zip((slice(0, 2), slice(2, 4)), numbers, strict=True)
    ]
    whole = global_loss(Output(logits, ((logits * 2, 0.3),)), target, 1.0, dice_weight)
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
        torch.randn(num_episodes, 3, 33, 33, generator=generator),
        torch.randn(num_episodes, 1, 3, 33, 33, generator=generator),
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
        model = frozen_batch_norm(build_model("prototype", "resnet18", from_scratch=True))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # Heads begin at zero, which would hide the gradients of what is below them.
                if not name.startswith("backbone"):
                    parameter.add_(0.1 * torch.randn_like(parameter))
        config = FewShotConfig(dice_weight=dice_weight, momentum=0.0, weight_decay=0.0)
        learner = Learner(model, config, ALONE, Precision("off", CPU), size)
        loss = learner.step(noise_batch(5), pixel_share=0.9, lr=0.1)
        return loss, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    whole_loss, whole = stepped(0)
    loss, gradients = stepped(micro_batch)
    torch.testing.assert_close(loss, whole_loss)
    for name, gradient in whole.items():
        largest = gradient.abs().max()
        assert largest > 0, name
        assert (gradients[name] - gradient).abs().max() < 1e-4 * largest, name


def test_the_parts_of_a_batch_are_all_of_it_in_order():
    batch = noise_batch(5)
    parts = divide(batch, 2)
    assert [len(part.batch.query) for part in parts] == [2, 2, 1]
    assert sum(part.pixel_share for part in parts) == pytest.approx(1)
    assert sum(part.episode_share for part in parts) == pytest.approx(1)
    for whole, *pieces in zip(batch, *(part.batch for part in parts), strict=True):
        assert torch.equal(torch.cat(pieces), whole)
    (alone,) = divide(batch, 0)
    assert (alone.pixel_share, alone.episode_share) == (1.0, 1.0)


def test_one_bad_loss_is_named_by_its_step():
    meter = LossMeter(CPU)
    for step, loss in enumerate([1.0, float("inf"), float("nan"), 1.0], start=1):
        meter.add(torch.tensor(loss), step)
    with pytest.raises(NonFiniteLossError, match="at step 2:"):
        meter.check()


def test_a_meter_goes_on_from_a_saved_sum():
    meter = LossMeter(CPU)
    meter.reset(2.5)
    meter.add(torch.tensor(0.25), 1)
    meter.check()
    assert meter.sum == 2.75


def test_the_best_evaluation_is_the_earliest_of_the_highest():
    progress = Progress()
    marks = [progress.record(Evaluation(e, (counts_with(i),))) for e, i in enumerate([3, 5, 5, 4])]
    assert marks == [True, True, False, False]
    assert progress.best is not None
    assert progress.final is not None
    assert (progress.best.epoch, progress.final.epoch) == (1, 3)


def test_progress_travels_through_plain_values():
    progress = Progress(epoch=2, step=3, untrained=Evaluation(0, (counts_with(1),)))
    progress.record(Evaluation(2, (counts_with(4), counts_with(6))))
    progress.history.append({"epoch": 1, "loss": 0.5})
    again = Progress.from_state(progress.to_state())
    assert again.to_state() == progress.to_state()
    assert again.best is not None
    assert again.best.miou == 0.5


def test_an_evaluation_on_several_test_seeds_is_their_mean_and_keeps_each():
    one, other = counts_with(4), counts_with(6)
    details = Evaluation(2, (one, other)).details()
    assert details["miou"] == 0.5
    assert details["std"]["miou"] == pytest.approx(0.02**0.5)
    assert details["std"]["fb_iou"] == pytest.approx(0.02**0.5 / 2)
    kept = [IoUCounts.from_json(entry["counts"]).miou() for entry in details["by_test_seed"]]
    assert kept == [entry["miou"] for entry in details["by_test_seed"]] == [0.4, 0.6]


def test_an_evaluation_on_one_test_seed_has_no_spread():
    details = Evaluation(2, (counts_with(4),)).details()
    assert details["miou"] == 0.4
    assert details["counts"] == counts_with(4).to_json()
    assert details.keys().isdisjoint({"std", "by_test_seed"})


@pytest.mark.parametrize("transform", [Squash(size=33), FitLongerSide(size=33)])
@pytest.mark.parametrize("is_original", [True, False])
def test_predictions_are_counted_at_the_size_of_the_truth(source, transform, is_original):
    dataset = EvalDataset(
        ImageCache(source), [Episode("a", 7, ("bb",))], transform, is_original_size=is_original
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
    dataset = EvalDataset(ImageCache(source), episodes, FitLongerSide(size=20), False)
    assert dataset[0].truth.tolist() == np.zeros((10, 20)).tolist()


def test_panels_show_the_classes_in_turn():
    episodes = [Episode(f"{n}", c, ("s",)) for n, c in enumerate([1, 1, 1, 2, 2, 3])]
    assert choose_episodes(episodes, 4) == [0, 1, 3, 5]
    assert choose_episodes(episodes, 0) == []
    assert choose_episodes(episodes, 99) == [0, 1, 2, 3, 4, 5]


def test_a_step_changes_what_is_trained_and_a_saved_state_brings_it_back(scratch_model, source):
    learner = Learner(scratch_model, FewShotConfig(lr=0.1), ALONE, Precision("off", CPU))
    before = {name: value.clone() for name, value in trained_state(scratch_model).items()}
    assert any(name.startswith("backbone.") for name in before)
    batch = collate([train_dataset(source)[0], train_dataset(source)[1]])
    learner.step(batch, pixel_share=1.0, lr=0.1)
    changed = trained_state(scratch_model)
    assert any(not torch.equal(changed[name], before[name]) for name in before)
    load_trained_state(scratch_model, before)
    after = trained_state(scratch_model)
    assert all(torch.equal(after[name], before[name]) for name in before)
