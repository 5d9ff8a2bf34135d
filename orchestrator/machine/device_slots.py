"""Which devices are free, if a device may run several runs at the same time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence


class Slots:
    """The devices of one executor; each can be taken `runs_per_device` times, by different runs."""

    def __init__(self, names: Sequence[str], runs_per_device: int = 1) -> None:
        self._free = dict.fromkeys(names, runs_per_device)
        self._runs_per_device = runs_per_device

    def take(
        self, count: int, in_use: Callable[[Sequence[str]], Collection[str]] = lambda _: ()
    ) -> tuple[str, ...] | None:
        """`count` different devices, those with most free slots; None if too few are free.

        `in_use` says which of the devices that have no run others use; asked only where there are
        enough of them.
        """
        available = [name for name, num_free in self._free.items() if num_free]
        if len(available) < count:
            return None
        used = in_use([name for name in available if self._free[name] == self._runs_per_device])
        available = [name for name in available if name not in used]
        if len(available) < count:
            return None
        chosen = sorted(available, key=lambda name: -self._free[name])[:count]
        for name in chosen:
            self._free[name] -= 1
        return tuple(name for name in self._free if name in chosen)

    def give_back(self, names: Sequence[str]) -> None:
        """Free the devices that `take` returned."""
        for name in names:
            self._free[name] += 1
