"""What the scheduling thread can be notified of: messages in its one inbox."""

from __future__ import annotations

from dataclasses import dataclass
from queue import SimpleQueue

from merge.records.records import Cause


@dataclass(frozen=True, slots=True)
class Exited:
    """The command of the attempt with this token has ended."""

    token: str


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """Another executor has taken the run of the attempt with this token over."""

    token: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A request to cancel the run of the attempt with this token was found."""

    token: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A signal asks this process to stop."""

    cause: Cause
    at: float
    """Monotonic time of the signal."""


@dataclass(frozen=True, slots=True)
class GuardDied:
    """The process that kills our trainers if we are killed has died itself."""


Message = Exited | ClaimLost | CancelRequested | StopRequested | GuardDied
Inbox = SimpleQueue[Message]
"""Written by threads, read by the scheduling thread alone."""
