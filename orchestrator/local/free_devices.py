"""GPUs that others use are waited for: asked each time when a run could start on one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.local.settings import LocalSettings
from orchestrator.machine.gpus_in_use import unknown_text, users_text, uses_of_others

_FIRST_LOOKS, _FIRST_WAIT_S, _WAIT_S = 5, 1.0, 10.0
"""A trainer of ours that has just ended may be listed for a moment."""


class FreeDevices:
    """Which of the free devices others use, as far as nvidia-smi knows."""

    def __init__(self, settings: LocalSettings, notice: Callable[[str], object]) -> None:
        self._is_asked = settings.waits_for_gpus and settings.devices.kind == "cuda"
        self._clock = settings.clock
        self._notice = notice
        self._uses: dict[str, str] = {}
        self._num_looks = 0
        """In a row, that found a device in use."""
        self._next_look = 0.0
        self._reported: set[str] = set()

    def in_use(self, names: Sequence[str]) -> frozenset[str]:
        """Those of `names`, on which nothing of this executor runs, that others use."""
        if not self._is_asked or not names:
            return frozenset()
        waiting = [name for name in names if name in self._uses]
        if not waiting or self._clock.monotonic() >= self._next_look:
            self._look(names)
        return frozenset(name for name in names if name in self._uses)

    def _look(self, names: Sequence[str]) -> None:
        self._uses, problem = uses_of_others(names)
        if problem:
            self._tell(unknown_text(problem))
        self._num_looks = self._num_looks + 1 if self._uses else 0
        wait_s = _FIRST_WAIT_S if self._num_looks < _FIRST_LOOKS else _WAIT_S
        self._next_look = self._clock.monotonic() + wait_s
        if self._num_looks > 1:
            for name, user in self._uses.items():
                text = users_text({name: user})
                self._tell(f"{text}: waiting for it (--gpus-in-use use shares it)")

    def _tell(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._notice(text)
