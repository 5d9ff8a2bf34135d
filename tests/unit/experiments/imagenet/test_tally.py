"""Top-1, top-5, macro F1 and loss over every image, for any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, top_k_accuracy_score

from experiments.imagenet.tally import ImageTally
from experiments.imagenet.task import _scored

NUM_IMAGES, NUM_CLASSES = 101, 7


def predictions(seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, NUM_CLASSES, NUM_IMAGES)
    logits = torch.from_numpy(rng.normal(size=(NUM_IMAGES, NUM_CLASSES)).astype(np.float32))
    return labels, logits, _scored(logits, torch.from_numpy(labels))


def total(labels, scored, ranks: int):
    states = []
    for rank in range(ranks):
        tally = ImageTally(labels, NUM_CLASSES)
        for index in range(rank, NUM_IMAGES, ranks):
            tally.add(index, scored[index], None)
        states.append(tally.state())
    return sum(states)


@pytest.mark.parametrize("seed", range(3))
def test_the_metrics_are_those_of_scikit_learn_on_1_2_and_3_ranks(seed):
    labels, logits, scored = predictions(seed)
    found = [
        ImageTally(labels, NUM_CLASSES).metrics(total(labels, scored, ranks)) for ranks in (1, 2, 3)
    ]
    assert found[0] == found[1] == found[2]
    predicted = logits.numpy().argmax(1)
    classes = np.arange(NUM_CLASSES)
    assert found[0] == pytest.approx(
        {
            "top1": (predicted == labels).mean(),
            "top5": top_k_accuracy_score(labels, logits.numpy(), k=5, labels=classes),
            "f1": f1_score(labels, predicted, average="macro", labels=classes, zero_division=0),
            "test_loss": float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))),
        },
        abs=1e-6,
    )


def test_a_class_that_is_never_met_has_an_f1_of_0():
    labels = np.array([0, 0, 1])
    _, _, scored = predictions(0)
    tally = ImageTally(labels, 3)
    for index, predicted in enumerate((0, 1, 1)):
        tally.add(index, type(scored[0])(predicted, True, 0.5), None)
    assert tally.metrics(tally.state())["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_images_dropped_or_padded_to_equal_shares_are_refused(ranks):
    """The original left out 848 of 50,000 images: the last, shorter share of each rank."""
    labels, _, scored = predictions(0)
    share = NUM_IMAGES // ranks
    dropped, padded = ImageTally(labels, NUM_CLASSES), ImageTally(labels, NUM_CLASSES)
    for index in range(share * ranks):
        dropped.add(index, scored[index], None)
    with pytest.raises(ValueError, match=rf"{NUM_IMAGES - share * ranks} of 101 images were not"):
        dropped.metrics(dropped.state())
    for place in range((share + 1) * ranks):
        padded.add(place % NUM_IMAGES, scored[place % NUM_IMAGES], None)
    with pytest.raises(ValueError, match="more than once"):
        padded.metrics(padded.state())


def test_fewer_than_five_classes_have_all_of_them_in_the_top_five():
    (scored,) = _scored(torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([2]))
    assert (scored.predicted, scored.in_top5) == (1, True)
