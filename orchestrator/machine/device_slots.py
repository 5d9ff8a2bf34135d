"""Which devices are free, where a device may serve several runs at once."""

from __future__ import annotations

from collections.abc import Sequence


class Slots:
    """The devices of one executor; each can be held `runs_per_device` times, by different runs."""

    def __init__(self, names: Sequence[str], runs_per_device: int = 1) -> None:
        self._room = dict.fromkeys(names, runs_per_device)

    def take(self, count: int) -> tuple[str, ...] | None:
        """`count` different devices, the emptiest first, in their order; None where too few."""
        open_ones = [name for name, room in self._room.items() if room]
        if len(open_ones) < count:
            return None
        chosen = sorted(open_ones, key=lambda name: -self._room[name])[:count]
        for name in chosen:
            self._room[name] -= 1
        return tuple(name for name in self._room if name in chosen)

    def give_back(self, names: Sequence[str]) -> None:
        """The devices that `take` gave."""
        for name in names:
            self._room[name] += 1
