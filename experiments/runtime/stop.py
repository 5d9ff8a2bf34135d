"""Stop on request: SIGTERM or SIGUSR2 asks a rank to end at the next step that all ranks agree on.

Imports no torch, so that the request can be received while heavy imports are still going on.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
_CHECK_EVERY_S = 0.2


class Stopped(Exception):  # noqa: N818
    """All ranks agreed to stop here; nothing went wrong."""


class StopRequest:
    """Whether this process received a request to stop.

    torchrun sends SIGTERM too, when another rank has failed. A rank that waits for the failed one
    inside a collective never gets to act on it; so from a first signal on, a thread looks whether
    all ranks of this machine still live, and ends this process when one does not. The thread also
    ends this process when torchrun's agent has died: nothing would start or stop the ranks
    together any more, and the next attempt must not run beside them.
    """

    def __init__(self) -> None:
        self._agent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self._is_requested = False
        self._peers: tuple[int, ...] = ()

    @property
    def is_requested(self) -> bool:
        """Whether a stop signal has arrived; the ranks then agree on the step to stop at."""
        return self._is_requested

    def install(self) -> None:
        """Receive the stop signals from now on; call it once, in the main thread."""
        # The wakeup pipe is written by the C handler, also while the main thread is blocked.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._receive)
        threading.Thread(target=self._guard, args=(reader,), daemon=True).start()

    def watch_peers(self, process_ids: tuple[int, ...]) -> None:
        """Name the ranks on this machine, without this one; () when they may leave in peace."""
        # One that cannot be seen, from inside another container, cannot be watched either.
        self._peers = tuple(process_id for process_id in process_ids if _is_alive(process_id))

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self._is_requested = True

    def _guard(self, reader: int) -> None:
        was_asked = False
        while self._agent in (None, os.getppid()):
            if was_asked and not all(_is_alive(process_id) for process_id in self._peers):
                break
            if select.select([reader], [], [], _CHECK_EVERY_S)[0]:
                was_asked |= os.read(reader, 1)[0] in STOP_SIGNALS
        os._exit(1)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
