"""Episodes as HSNet draws them; a test list repeats its sequence draw by draw.

On PASCAL-5i a test query is the pair at (index mod number of pairs), and only supports are drawn.
On COCO-20i the class is drawn first, uniformly, then the query among its images. A support is
drawn again as long as it is the query, so it never is, but shots may repeat. Each draw is one
`numpy.random.choice(pool, 1, replace=False)` of the legacy generator under the test seed: HSNet
loads test episodes in order, in one process, and nothing else draws from that generator.
Training queries come without replacement, by our own named streams: HSNet's depend on its workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Protocol

import numpy as np

from experiments.datasets.pair_lists import Pair
from experiments.fewshot.episodes.bam import Episode, passes
from experiments.runtime.seeds import numpy_generator
from merge.errors import DataError

_Pick = Callable[[int], int]
"""A uniform index below the argument."""


class PairDrawable(Protocol):
    """What a split must have for HSNet's episodes to be drawn from it."""

    @property
    def pairs(self) -> Sequence[Pair]:
        """The (image, class id) pairs, in the list's order."""
        ...

    @property
    def images_by_class(self) -> Mapping[int, Sequence[str]]:
        """The images of each class, in the order of the pairs."""
        ...

    @property
    def draws_class_first(self) -> bool:
        """Whether an episode begins with its class (COCO-20i), not with a pair."""
        ...


def hsnet_train_episodes(
    split: PairDrawable, *, shot: int, num_episodes: int, seed: int, epoch: int
) -> tuple[Episode, ...]:
    """The episodes of one epoch, counted from 0.

    Pairs come without replacement, across epochs too; where the class is drawn first, all draws
    are independent. DataError where no class has two images.
    """
    draw = _HsnetDraw(split, shot)
    rng = numpy_generator(seed, "episodes", "train", "hsnet", epoch)

    def pick(size: int) -> int:
        return int(rng.integers(size))

    if split.draws_class_first:
        return tuple(draw.by_class(pick) for _ in range(num_episodes))
    order = passes(draw.pairs, seed, "train", first=epoch * num_episodes)
    return tuple(draw.by_pair(pair, pick) for pair in islice(order, num_episodes))


def hsnet_test_episodes(
    split: PairDrawable, *, shot: int, num_episodes: int, seed: int
) -> tuple[Episode, ...]:
    """HSNet's test list under numpy seed `seed`; HSNet itself takes 0, and 1,000 episodes."""
    draw = _HsnetDraw(split, shot)
    rng = np.random.RandomState(seed)

    def pick(size: int) -> int:
        return int(rng.choice(size, 1, replace=False)[0])

    if split.draws_class_first:
        return tuple(draw.by_class(pick) for _ in range(num_episodes))
    num_pairs = len(draw.pairs)
    return tuple(draw.by_pair(draw.pairs[i % num_pairs], pick) for i in range(num_episodes))


class _HsnetDraw:
    """What can be drawn: classes with two images or more (for one, HSNet would never end)."""

    def __init__(self, split: PairDrawable, shot: int) -> None:
        if shot < 1:
            raise ValueError(f"an episode needs at least one support image, not {shot}")
        self._shot = shot
        self._pools = {
            c: pool for c, pool in sorted(split.images_by_class.items()) if len(set(pool)) > 1
        }
        self._class_ids = tuple(self._pools)
        self.pairs = [pair for pair in split.pairs if pair[1] in self._pools]
        if not self.pairs:
            raise DataError(
                f"no episode can be drawn from {len(split.pairs)} (image, class) pairs: no class "
                "has two images, a query and a support; use a larger data set"
            )

    def by_pair(self, pair: Pair, pick: _Pick) -> Episode:
        query, class_id = pair
        pool, supports = self._pools[class_id], list[str]()
        while len(supports) < self._shot:
            support = pool[pick(len(pool))]
            if support != query:
                supports.append(support)
        return Episode(query, class_id, tuple(supports))

    def by_class(self, pick: _Pick) -> Episode:
        class_id = self._class_ids[pick(len(self._class_ids))]
        pool = self._pools[class_id]
        return self.by_pair((pool[pick(len(pool))], class_id), pick)
