"""Episode lists: drawn without replacement, fixed by seed and epoch, never query = support."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.fewshot.episodes import bam as lists
from experiments.fewshot.episodes.bam import Episode
from merge.errors import DataError


@dataclass(frozen=True)
class Pool:
    images_by_class: Mapping[int, tuple[str, ...]]
    classes_by_image: Mapping[str, tuple[int, ...]]

    @property
    def queries(self) -> tuple[str, ...]:
        return tuple(self.classes_by_image)


def pool(images_by_class: Mapping[int, tuple[str, ...]]) -> Pool:
    queries = sorted({image for images in images_by_class.values() for image in images})
    classes = {q: tuple(c for c, images in images_by_class.items() if q in images) for q in queries}
    return Pool(images_by_class, classes)


FOUR_CLASSES = pool(
    {
        3: ("a", "b", "c", "d", "e", "f"),
        5: ("c", "d", "g", "h"),
        8: ("a", "h", "i"),
        9: ("j",),
    }
)

image_names = st.integers(0, 11).map(lambda number: f"image{number}")
pools = st.dictionaries(
    st.integers(1, 20),
    st.lists(image_names, min_size=4, max_size=8, unique=True).map(tuple),
    min_size=1,
    max_size=4,
).map(pool)


@given(pools, st.integers(1, 3), st.integers(0, 2**62), st.integers(0, 3))
def test_supports_show_the_class_without_repeats_and_without_the_query(split, shot, seed, epoch):
    drawn = lists.train_episodes(split, shot=shot, num_episodes=30, seed=seed, epoch=epoch)
    for episode in drawn + lists.test_episodes(split, shot=shot, num_episodes=30, seed=seed):
        images = split.images_by_class[episode.class_id]
        assert len(set(episode.supports)) == len(episode.supports) == shot
        assert set(episode.supports) | {episode.query} <= set(images)
        assert episode.query not in episode.supports


def test_a_query_may_be_asked_for_a_class_that_it_shows_too_small_to_support():
    split = Pool({3: ("a", "b", "c"), 5: ("c", "d")}, {"a": (3, 5), "b": (3,), "c": (3, 5)})
    drawn = lists.test_episodes(split, shot=1, num_episodes=300, seed=0)
    of_small = [episode for episode in drawn if (episode.query, episode.class_id) == ("a", 5)]
    assert 35 <= len(of_small) <= 65
    assert {episode.supports for episode in of_small} == {("c",), ("d",)}
    assert not any("a" in episode.supports for episode in drawn if episode.class_id == 5)


@given(pools, st.integers(1, 25), st.integers(0, 2**62))
def test_no_query_comes_again_before_all_were_used_even_across_epochs(split, num_episodes, seed):
    queries = [
        episode.query
        for epoch in range(6)
        for episode in lists.train_episodes(
            split, shot=1, num_episodes=num_episodes, seed=seed, epoch=epoch
        )
    ]
    starts = range(0, len(queries) + 1, len(split.queries))
    for start, end in pairwise(starts):
        assert sorted(queries[start:end]) == list(split.queries)
    rest = queries[starts[-1] :]
    assert len(set(rest)) == len(rest)


def test_each_pass_takes_the_queries_in_another_order():
    orders = {
        tuple(
            episode.query
            for episode in lists.train_episodes(
                FOUR_CLASSES, shot=1, num_episodes=9, seed=0, epoch=epoch
            )
        )
        for epoch in range(5)
    }
    assert {len(set(order)) for order in orders} == {9}
    assert len(orders) == 5


def test_every_epoch_and_every_seed_has_a_list_of_its_own():
    drawn = {
        lists.train_episodes(FOUR_CLASSES, shot=1, num_episodes=8, seed=seed, epoch=epoch)
        for seed in range(3)
        for epoch in range(4)
    }
    assert len(drawn) == 12


def test_the_test_list_is_fixed_by_its_seed():
    first, again, other = (
        lists.test_episodes(FOUR_CLASSES, shot=2, num_episodes=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_shorter_test_list_begins_a_longer_one():
    short = lists.test_episodes(FOUR_CLASSES, shot=1, num_episodes=7, seed=0)
    assert lists.test_episodes(FOUR_CLASSES, shot=1, num_episodes=40, seed=0)[:7] == short


def test_the_class_is_uniform_among_those_the_query_shows():
    drawn = lists.test_episodes(FOUR_CLASSES, shot=1, num_episodes=9000, seed=0)
    classes = Counter(episode.class_id for episode in drawn if episode.query == "c")
    assert classes.keys() == {3, 5}
    assert 0.45 < classes[3] / classes.total() < 0.55


def test_every_other_image_of_the_class_supports_equally_often():
    drawn = lists.test_episodes(FOUR_CLASSES, shot=2, num_episodes=9000, seed=0)
    supports = Counter(
        name
        for episode in drawn
        if (episode.query, episode.class_id) == ("g", 5)
        for name in episode.supports
    )
    assert supports.keys() == {"c", "d", "h"}
    assert all(abs(count / supports.total() - 1 / 3) < 0.04 for count in supports.values())


@pytest.mark.parametrize(
    ("shot", "usable"), [(1, {3, 5, 8}), (2, {3, 5, 8}), (3, {3, 5}), (5, {3})]
)
def test_a_class_without_enough_images_is_never_asked_for(shot, usable):
    drawn = lists.train_episodes(FOUR_CLASSES, shot=shot, num_episodes=200, seed=0, epoch=0)
    assert {episode.class_id for episode in drawn} == usable


def test_too_many_shots_are_refused_with_the_counts_and_the_fix():
    with pytest.raises(DataError) as caught:
        lists.train_episodes(FOUR_CLASSES, shot=6, num_episodes=1, seed=0, epoch=0)
    message = str(caught.value)
    assert "class 3: 6, class 5: 4, class 8: 3, class 9: 1" in message
    assert "use 5 shots or fewer" in message


@pytest.mark.parametrize(
    "split", [Pool({}, {}), Pool({1: ()}, {"a": (1,)}), Pool({1: ("a", "b")}, {})]
)
def test_a_split_with_nothing_to_draw_is_refused(split):
    with pytest.raises(DataError, match="no 1-shot episode can be drawn"):
        lists.test_episodes(split, shot=1, num_episodes=1, seed=0)


def test_zero_shots_are_refused():
    with pytest.raises(ValueError, match="at least one support"):
        lists.test_episodes(FOUR_CLASSES, shot=0, num_episodes=1, seed=0)


def test_the_hash_tells_lists_apart_by_every_part_and_by_order():
    first, second = Episode("a", 3, ("b", "c")), Episode("c", 5, ("d", "g"))
    variants = [
        [first, second],
        [second, first],
        [first],
        [Episode("d", 3, ("b", "c")), second],
        [Episode("a", 8, ("b", "c")), second],
        [Episode("a", 3, ("c", "b")), second],
    ]
    assert len({lists.episode_list_hash(variant) for variant in variants}) == len(variants)


def test_lists_are_the_same_on_every_machine():
    train = lists.train_episodes(FOUR_CLASSES, shot=2, num_episodes=20, seed=321, epoch=3)
    test = lists.test_episodes(FOUR_CLASSES, shot=2, num_episodes=20, seed=321)
    hashes = (lists.episode_list_hash(train), lists.episode_list_hash(test))
    assert hashes == ("d48d3be3f68b4f49", "fd7764e2f1bfa9c2")
