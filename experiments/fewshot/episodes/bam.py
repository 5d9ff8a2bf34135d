"""Episode lists of protocol `bam`: fixed, whole and global before anything is sharded.

A list depends on its seed, its epoch and the split alone. The ranks and loader workers take parts
of one list, so their number cannot change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np

from experiments.runtime.seeds import numpy_generator
from merge.errors import DataError
from merge.storage.json_files import canonical_json

ItemT = TypeVar("ItemT")


class Drawable(Protocol):
    """What a split must have for episodes to be drawn from it."""

    @property
    def images_by_class(self) -> Mapping[int, Sequence[str]]:
        """The images that may support each class."""
        ...

    @property
    def classes_by_image(self) -> Mapping[str, Sequence[int]]:
        """The images that may be a query, and the classes that each may be asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Episode:
    """One query image, the class to find in it, and the images that show what the class is."""

    query: str
    class_id: int
    supports: tuple[str, ...]


def train_episodes(
    split: Drawable, *, shot: int, num_episodes: int, seed: int, epoch: int
) -> tuple[Episode, ...]:
    """The episodes of one epoch, counted from 0.

    Queries come without replacement, across epochs too: a new pass over them, in a new order,
    begins only when all were used. The class is uniform among the query's usable classes, the
    supports are other images of it without repeats. A class with fewer than shot + 1 images is
    not usable; DataError where none remains.
    """
    draw = _Draw(split, shot)
    order = passes(draw.queries, seed, "train", first=epoch * num_episodes)
    rng = numpy_generator(seed, "episodes", "train", "supports", epoch)
    return tuple(draw.episode(query, rng) for query in islice(order, num_episodes))


def test_episodes(
    split: Drawable, *, shot: int, num_episodes: int, seed: int
) -> tuple[Episode, ...]:
    """The one list that a seed is tested on; drawn as `train_episodes` draws."""
    draw = _Draw(split, shot)
    order = passes(draw.queries, seed, "test", first=0)
    rng = numpy_generator(seed, "episodes", "test", "supports")
    return tuple(draw.episode(query, rng) for query in islice(order, num_episodes))


def passes(items: Sequence[ItemT], seed: int, purpose: str, first: int) -> Iterator[ItemT]:
    """The endless sequence of passes over `items`, each shuffled anew, from position `first` on."""
    lap, skipped = divmod(first, len(items))
    while True:
        rng = numpy_generator(seed, "episodes", purpose, "queries", lap)
        for index in rng.permutation(len(items))[skipped:]:
            yield items[index]
        lap, skipped = lap + 1, 0


def episode_list_hash(episodes: Iterable[Episode]) -> str:
    """16 hex digits that two equal lists share; the order counts."""
    rows = [[episode.query, episode.class_id, list(episode.supports)] for episode in episodes]
    return hashlib.sha256(canonical_json(rows)).hexdigest()[:16]


class _Draw:
    """What can be drawn from a split with a given number of shots."""

    def __init__(self, split: Drawable, shot: int) -> None:
        if shot < 1:
            raise ValueError(f"an episode needs at least one support image, not {shot}")
        self._shot = shot
        self._pools = {c: pool for c, pool in split.images_by_class.items() if len(pool) > shot}
        usable = {
            q: [c for c in of if c in self._pools] for q, of in split.classes_by_image.items()
        }
        self._classes_of = {query: classes for query, classes in usable.items() if classes}
        self.queries = list(self._classes_of)
        if not self.queries:
            raise DataError(_nothing_to_draw(split, shot))

    def episode(self, query: str, rng: np.random.Generator) -> Episode:
        classes = self._classes_of[query]
        class_id = classes[rng.integers(len(classes))]
        pool = self._pools[class_id]
        # One more than needed, so that the query can be left out without a second draw.
        drawn = rng.choice(len(pool), size=self._shot + 1, replace=False)
        supports = [pool[index] for index in drawn if pool[index] != query]
        return Episode(query, class_id, tuple(supports[: self._shot]))


def _nothing_to_draw(split: Drawable, shot: int) -> str:
    counts = {class_id: len(images) for class_id, images in sorted(split.images_by_class.items())}
    listed = ", ".join(f"class {class_id}: {count}" for class_id, count in counts.items())
    most = max(counts.values(), default=0)
    fix = f"use {most - 1} shots or fewer" if most > 1 else "use a larger data set"
    if most > shot:
        num_queries = len(split.classes_by_image)
        fix = f"none of the {num_queries} query images shows a class with that many images"
    return (
        f"no {shot}-shot episode can be drawn: a class needs {shot + 1} images, "
        f"one query and {shot} supports; images there are: {listed or 'none'}; {fix}"
    )
