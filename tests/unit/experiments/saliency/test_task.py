"""The task: what is trained, how tested images are scored over ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from support.ranks import ROOT
from support.saliency import new_model, new_task, saliency_options, small_data

from experiments.saliency.items import EvalItem, TrainItems
from experiments.saliency.metrics import METRICS
from experiments.saliency.points import cells_of
from experiments.saliency.source import read_rgb
from experiments.saliency.task import entropy, negative_log_likelihood

KEYS = ("recorded", "equal_in_a_cell", "equal_in_a_pair")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saliency")


@pytest.fixture(scope="module")
def task(folder):
    options = saliency_options(split="folds", fold=1)
    return new_task(options, small_data(folder, options, num_images=40))


def rows_of(task, world_size):
    """The state that ranks sum, each of which predicts every n-th image."""
    model, items = new_model().eval(), task.eval_data("test")
    states = []
    for rank in range(world_size):
        tally = task.tally("test")
        for place in range(rank, len(items), world_size):
            item = items[place]
            with torch.inference_mode():
                tally.add(place, task.predict(model, item, CPU), item)
        states.append(tally.state())
    return np.sum(states, axis=0)


def test_one_two_and_three_ranks_score_the_same_to_the_last_bit(task):
    """Four images over three ranks: a mean of the ranks' means, or a padded shard, differs."""
    alone = rows_of(task, 1)
    assert alone.shape == (4, len(METRICS))
    assert alone.dtype == np.float64
    for world_size in (2, 3):
        assert np.array_equal(rows_of(task, world_size), alone)
    metrics = task.tally("test").metrics(alone)
    assert metrics == {
        name: pytest.approx(float(alone[:, column].mean()), rel=1e-12)
        for column, name in enumerate(METRICS)
    }
    # The untrained model is the baseline.
    assert metrics["ig"] == pytest.approx(0, abs=1e-9)
    assert metrics["auc"] > 0.5


def test_images_that_are_predicted_together_get_the_same_densities(task):
    model = new_model().eval()
    torch.nn.init.normal_(model.readout.layers[-1].weight)
    items = [task.eval_data("test")[place] for place in range(3)]
    with torch.inference_mode():
        together = task.predict_chunk(model, items, CPU)
        for item, density in zip(items, together, strict=True):
            assert density.shape == item.truth.log_baseline.shape
            assert np.allclose(density, task.predict(model, item, CPU), atol=1e-5)
            assert np.abs(density - item.truth.log_baseline).max() > 1e-3


def test_an_image_is_scored_at_its_own_size_with_its_own_fixations(task):
    items = task.eval_data("test")
    for place, item in enumerate(items[index] for index in range(len(items))):
        stimulus = task.data.source.stimuli[task.data.split.test[place]]
        assert isinstance(item, EvalItem)
        assert item.image.shape == (3, 32, 48)
        assert item.truth.log_baseline.shape == stimulus.size[::-1]
        assert np.array_equal(item.truth.fixations, cells_of(stimulus.points, stimulus.size))
        others = sum(len(each.points) for each in task.data.source.stimuli)
        assert len(item.truth.others) == others - len(stimulus.points)


def test_the_centre_bias_knows_the_training_images_alone(task):
    owners = set(task.data.bias.pool.owners.tolist())
    assert owners == set(task.data.split.train)


def test_images_reach_the_model_as_they_are_and_fixations_as_counts(task):
    batch = task.collate([task.train_data(0)[index] for index in range(3)])
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (3, 3, 32, 48)
    assert batch["counts"].shape == batch["log_bias"].shape == (3, 4, 6)
    numbers = [len(task.data.source.stimuli[place].points) for place in task.data.split.train[:3]]
    assert batch["counts"].sum(dim=(1, 2)).tolist() == numbers
    assert task.weights(batch) == {"fixations": sum(numbers), "images": 3}


def mirrored(task, probability, index):
    data = task.data
    items = TrainItems(
        data.source, data.split.train, data.bias, (72, 96), probability, seed=0, epoch=0
    )
    return items[index]


def test_a_mirrored_image_takes_its_fixations_and_its_bias_along(task):
    plain, other = mirrored(task, 0.0, 1), mirrored(task, 1.0, 1)
    assert set(plain) == set(other)
    for name, values in plain.items():
        assert torch.equal(values.flip(-1), other[name]), name
    assert not torch.equal(plain["counts"], other["counts"])


def test_what_is_drawn_depends_on_the_epoch_and_the_index_alone(task):
    flips = [
        [torch.equal(task.train_data(epoch)[i]["counts"], mirrored_counts) for epoch in range(6)]
        for i in range(3)
        for mirrored_counts in [task.train_data(0)[i]["counts"]]
    ]
    assert all(row[0] for row in flips)
    assert {value for row in flips for value in row} == {True, False}


@torch.no_grad()
def test_the_loss_is_a_mean_over_fixations_however_a_batch_is_divided(task):
    model = new_model()
    torch.nn.init.normal_(model.readout.layers[-1].weight)
    batch = task.collate([task.train_data(0)[index] for index in range(5)])
    whole = task.loss(task.forward(model, batch), batch)[0]
    total = 0.0
    for part in task.split(batch, 2):
        (term,) = task.loss(task.forward(model, part), part)
        assert term.counted == "fixations"
        total += float(term.value) * task.weights(part)["fixations"]
    assert total / task.weights(batch)["fixations"] == pytest.approx(float(whole.value), rel=1e-5)


def test_the_likelihood_is_that_of_the_fixated_cells():
    log_density = torch.log(torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[0.7, 0.1], [0.1, 0.1]]]))
    counts = torch.tensor([[[0.0, 1.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 0.0]]])
    expected = -(np.log(0.2) + 2 * np.log(0.4) + np.log(0.7)) / 4
    assert float(negative_log_likelihood(log_density, counts)) == pytest.approx(expected)
    assert float(negative_log_likelihood(log_density, torch.zeros_like(counts))) == 0


def test_the_entropy_variant_prefers_the_flatter_of_two_equally_likely_densities(folder):
    options = saliency_options(variant="entropy", entropy_weight=0.5)
    task = new_task(options, small_data(folder, options))
    uniform = torch.full((1, 2, 2), -np.log(4.0))
    assert float(entropy(uniform)) == pytest.approx(np.log(4))
    peaked = torch.log(torch.tensor([[[0.25, 0.73], [0.01, 0.01]]]))
    batch = {"image": torch.zeros(1, 3, 8, 8), "counts": torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])}
    flat, sharp = (
        sum(float(term.value) * term.factor for term in task.loss(each, batch))
        for each in (uniform, peaked)
    )
    assert flat < sharp
    baseline = new_task(saliency_options(), task.data)
    assert len(baseline.loss(uniform, batch)) == 1


def test_folds_that_chose_on_other_images_are_not_mixed_unseen(folder):
    """Else a cell's mean could hold epochs that were chosen on tested images."""
    path = ROOT / "experiments" / "saliency" / "manifest.yaml"
    compared = yaml.safe_load(path.read_text())["comparability"]
    shares = []
    for validation in (0.0, 0.25):
        options = saliency_options(split="folds", fold=1, validation=validation)
        details = new_task(options, small_data(folder, options, num_images=40)).details(new_model())
        shares.append(details["validation_share"])
    assert shares == [0.0, 0.25]
    assert all("validation_share" in compared[name] for name in KEYS)


def test_an_image_of_another_size_than_its_fixations_is_refused(task):
    from merge.errors import DataError

    class Swapped:
        stimuli = task.data.source.stimuli

        def image_file(self, index):
            return task.data.source.image_file(1 - index)

    with pytest.raises(DataError, match="its fixations were recorded on 96 x 72"):
        read_rgb(Swapped(), 0)
