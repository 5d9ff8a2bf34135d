"""The episode lists of a split, drawn as its protocol draws them."""

from __future__ import annotations

from experiments.fewshot.episodes.bam import Episode, test_episodes, train_episodes
from experiments.fewshot.episodes.hsnet import hsnet_test_episodes, hsnet_train_episodes
from experiments.fewshot.episodes.protocols import Split


def train_list(
    split: Split, *, shot: int, num_episodes: int, seed: int, epoch: int
) -> tuple[Episode, ...]:
    """The training episodes of one epoch, counted from 0."""
    draw = hsnet_train_episodes if split.protocol == "hsnet" else train_episodes
    return draw(split, shot=shot, num_episodes=num_episodes, seed=seed, epoch=epoch)


def test_list(split: Split, *, shot: int, num_episodes: int, seed: int) -> tuple[Episode, ...]:
    """The one list that a seed is tested on."""
    draw = hsnet_test_episodes if split.protocol == "hsnet" else test_episodes
    return draw(split, shot=shot, num_episodes=num_episodes, seed=seed)


def epoch_length(split: Split) -> int:
    """Episodes of one pass over a training split: HSNet counts pairs on PASCAL-5i, else images."""
    is_of_pairs = split.protocol == "hsnet" and not split.draws_class_first
    return len(split.pairs if is_of_pairs else split.queries)
