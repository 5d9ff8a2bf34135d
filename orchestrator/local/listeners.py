"""Events go to a list of listeners; none of them can stop a training."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from merge.errors import PapergridError
from orchestrator.local.events import Listener, Notice, RunEvent

_log = logging.getLogger(__name__)


class Listeners:
    """Passes each event to every listener, in the order in which they were added.

    What a listener shows or derives can be made again later; a training cannot. So an exception of
    a listener becomes a `Notice` to all, and the sweep goes on. The listener stays in the list: its
    disk or its server may recover. The same failure of the same listener is reported once; its
    failure with the notice about its own failure is not reported.

    KeyboardInterrupt and SystemExit pass through: they come from the user, not from a listener.
    """

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners = list(listeners)
        self._reported: set[tuple[int, str]] = set()
        """Index of a listener, and the text of a failure."""
        self._being_reported: set[int] = set()
        """Indexes of the listeners whose failure is being published."""

    def add(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def publish(self, event: RunEvent) -> None:
        """Call every listener with `event`."""
        for index, listener in enumerate(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - any code may listen, also a notebook's
                self._report(index, error)

    def notice(self, message: str) -> None:
        self.publish(Notice(message=message))

    def _report(self, index: int, error: Exception) -> None:
        is_ours = isinstance(error, PapergridError)
        reason = str(error) if is_ours else repr(error)
        # A listener gets the notice about itself too, and may fail again, with another text each
        # time (a time, a request id): reported again, that would never end.
        if (index, reason) in self._reported or index in self._being_reported:
            return
        self._reported.add((index, reason))
        name = _name(self._listeners[index])
        _log.debug("%s failed", name, exc_info=error)
        self._being_reported.add(index)
        try:
            self.notice(f"{name} failed, training continues: {reason}")
        finally:
            self._being_reported.discard(index)


def _name(listener: Listener) -> str:
    """The listener's `name`, else the name of its function or class."""
    named = getattr(listener, "name", None) or getattr(listener, "__qualname__", None)
    return str(named or type(listener).__name__)
