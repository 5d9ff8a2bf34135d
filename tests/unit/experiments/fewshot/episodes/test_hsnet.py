"""HSNet's episodes: its order of queries, its sequence of draws, never a query as support."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.fewshot.episodes import hsnet as lists
from merge.errors import DataError


@dataclass(frozen=True)
class Pool:
    pairs: tuple[tuple[str, int], ...]
    draws_class_first: bool = False

    @property
    def images_by_class(self) -> Mapping[int, tuple[str, ...]]:
        class_ids = sorted({class_id for _, class_id in self.pairs})
        return {c: tuple(name for name, other in self.pairs if other == c) for c in class_ids}

    @property
    def usable(self) -> list[tuple[str, int]]:
        return [pair for pair in self.pairs if len(self.images_by_class[pair[1]]) > 1]


image_names = st.integers(0, 11).map(lambda number: f"image{number:02d}")
pools = st.builds(
    Pool,
    st.lists(st.tuples(image_names, st.integers(1, 4)), min_size=1, max_size=20, unique=True)
    .filter(lambda pairs: len(Pool(tuple(pairs)).usable) > 0)
    .map(tuple),
    st.booleans(),
)
shots = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)

SMALL = Pool((("a", 1), ("b", 1), ("b", 2), ("c", 1), ("d", 2), ("e", 3)))


def hsnets_own(pool: Pool, shot: int, num_episodes: int, seed: int) -> list[tuple]:
    """The draws of HSNet's test loader, written from its description with numpy's global state."""
    np.random.seed(seed)
    episodes = []
    for index in range(num_episodes):
        if pool.draws_class_first:
            class_id = np.random.choice(list(pool.images_by_class), 1, replace=False)[0]
            images = pool.images_by_class[class_id]
            query = np.random.choice(images, 1, replace=False)[0]
        else:
            query, class_id = pool.pairs[index % len(pool.pairs)]
            images = pool.images_by_class[class_id]
        supports = []
        while len(supports) < shot:
            drawn = np.random.choice(images, 1, replace=False)[0]
            supports += [drawn] if drawn != query else []
        episodes.append((str(query), int(class_id), tuple(map(str, supports))))
    return episodes


@given(pools, shots, seeds)
def test_a_test_list_is_hsnets_sequence_draw_by_draw(pool, shot, seed):
    pool = Pool(tuple(pool.usable), pool.draws_class_first)
    drawn = lists.hsnet_test_episodes(pool, shot=shot, num_episodes=30, seed=seed)
    ours = [(episode.query, episode.class_id, episode.supports) for episode in drawn]
    assert ours == hsnets_own(pool, shot, 30, seed)


@given(pools, shots, seeds, st.integers(0, 3))
def test_a_support_shows_the_class_and_is_never_the_query(pool, shot, seed, epoch):
    drawn = lists.hsnet_train_episodes(pool, shot=shot, num_episodes=30, seed=seed, epoch=epoch)
    for episode in drawn + lists.hsnet_test_episodes(pool, shot=shot, num_episodes=30, seed=seed):
        assert episode.query not in episode.supports
        assert len(episode.supports) == shot
        assert {episode.query, *episode.supports} <= set(pool.images_by_class[episode.class_id])


@given(pools, shots, seeds)
def test_test_queries_go_round_the_pairs_in_their_order(pool, shot, seed):
    pool = Pool(pool.pairs)
    drawn = lists.hsnet_test_episodes(pool, shot=shot, num_episodes=50, seed=seed)
    expected = [pool.usable[index % len(pool.usable)] for index in range(50)]
    assert [(episode.query, episode.class_id) for episode in drawn] == expected


@given(pools, st.integers(1, 25), st.integers(0, 2**62))
def test_no_training_pair_comes_again_before_all_were_used_even_across_epochs(pool, size, seed):
    pool = Pool(pool.pairs)
    pairs = [
        (episode.query, episode.class_id)
        for epoch in range(6)
        for episode in lists.hsnet_train_episodes(
            pool, shot=1, num_episodes=size, seed=seed, epoch=epoch
        )
    ]
    starts = range(0, len(pairs) + 1, len(pool.usable))
    for start, end in pairwise(starts):
        assert sorted(pairs[start:end]) == sorted(pool.usable)
    rest = pairs[starts[-1] :]
    assert len(set(rest)) == len(rest)


def test_shots_may_repeat():
    (episode, *_) = lists.hsnet_test_episodes(SMALL, shot=9, num_episodes=1, seed=0)
    assert len(set(episode.supports)) < 9


def test_classes_come_equally_often_where_the_class_is_drawn_first():
    pool = Pool((*SMALL.pairs, *((f"more{n}", 1) for n in range(20))), draws_class_first=True)
    for drawn in (
        lists.hsnet_train_episodes(pool, shot=1, num_episodes=4000, seed=0, epoch=0),
        lists.hsnet_test_episodes(pool, shot=1, num_episodes=4000, seed=0),
    ):
        counts = Counter(episode.class_id for episode in drawn)
        assert counts.keys() == {1, 2}
        assert 0.45 < counts[1] / 4000 < 0.55


def test_every_epoch_and_every_seed_has_a_list_of_its_own():
    drawn = {
        lists.hsnet_train_episodes(SMALL, shot=3, num_episodes=8, seed=seed, epoch=epoch)
        for seed in range(3)
        for epoch in range(4)
    }
    assert len(drawn) == 12


@pytest.mark.parametrize("pool", [Pool(()), Pool((("a", 1), ("b", 2))), Pool((("a", 1),) * 2)])
def test_a_class_of_one_image_is_refused_and_not_searched_for_ever(pool):
    with pytest.raises(DataError, match="no class has two images"):
        lists.hsnet_test_episodes(pool, shot=1, num_episodes=1, seed=0)


def test_zero_shots_are_refused():
    with pytest.raises(ValueError, match="at least one support"):
        lists.hsnet_test_episodes(SMALL, shot=0, num_episodes=1, seed=0)
