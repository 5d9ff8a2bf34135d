"""Two processes meet in a folder and exchange JSON files there.

Each message is a file, complete under its final name. This works on every file system on which one
process sees at some time what the other one writes.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, Literal, TypeVar, get_args

from merge.errors import IncompleteError
from merge.storage.disk import discard_tree
from merge.storage.json_files import Json, read_json, write_json_exclusive
from merge.storage.nfs import disturb, fresh_names

Role = Literal["first", "second"]
T = TypeVar("T", bound=Json)
ROLES: tuple[Role, ...] = get_args(Role)

_POLL_S = 0.002
_LONGEST_POLL_S = 0.1
_LONGEST_SILENCE_S = 60.0
_WELCOME_S = 15.0
_TICK_S = 0.03
"""Longer than the steps in which file servers count time."""
_REMOVAL_S = 1.0
_NUMBER = re.compile(r"\d{4,}")


@dataclass(slots=True)
class Meeting:
    """Two processes at work in one folder."""

    folder: Path
    role: Role
    patience_s: float
    peer_ahead_s: float = 0.0
    """How far the other process's clock is ahead, by the shortest exchange so far."""
    _shortest_s: float = math.inf

    @property
    def other(self) -> Role:
        return "second" if self.role == "first" else "first"

    def files(self, name: str) -> tuple[Path, Path]:
        """This process's file of that name, and the other's."""
        return self.folder / f"{name}.{self.role}", self.folder / f"{name}.{self.other}"

    def exchange(self, topic: str, value: T) -> T:
        """Give `value` for the other process's: none goes on before both have come to this line.

        IncompleteError if the other one sends nothing for too long.
        """
        if self.role == "first":
            sent = time.time()
            self.say(topic, value=value, peer_ahead_s=self.peer_ahead_s)
            message, received = self._hear(topic)
            self._compare_clocks(message["received"] - sent, received - message["sent"])
        else:
            message, received = self._hear(topic)
            self.peer_ahead_s = -message["peer_ahead_s"]
            self.say(topic, value=value, received=received, sent=time.time())
        other: T = message["value"]
        return other

    def _compare_clocks(self, there_s: float, back_s: float) -> None:
        # As NTP does it: the error is at most half of the time that both ways take together.
        if there_s + back_s < self._shortest_s:
            self._shortest_s = there_s + back_s
            self.peer_ahead_s = (there_s - back_s) / 2

    def say(self, topic: str, **message: Json) -> None:
        """Send a message to the other process."""
        write_json_exclusive(self.folder / f"{topic}.{self.role}.json", message)
        # A folder's time stamp is all that an NFS client compares. Two messages within one tick of
        # the server's clock leave the same stamp, so a client could miss the second for ever.
        Timer(_TICK_S, disturb, [self.folder]).start()

    def _hear(self, topic: str) -> tuple[dict[str, Any], float]:
        """The other process's message, and when it came."""
        path = self.folder / f"{topic}.{self.other}.json"
        silence_s = min(self.patience_s, _LONGEST_SILENCE_S)
        if not self.hears(topic, silence_s):
            raise IncompleteError(
                f"no message from the other process in {silence_s:.0f} s ({path}): it died, "
                f"or this host does not see what it writes"
            )
        return read_json(path), time.time()

    def hears(self, topic: str, patience_s: float) -> bool:
        """Whether a message on `topic` comes within `patience_s`."""
        name = f"{topic}.{self.other}.json"
        return poll(lambda: name in fresh_names(self.folder), patience_s) is not None

    def close(self) -> None:
        """Remove the folder; only the first process does."""
        if self.role == "first":
            # The second process may still be in `disturb` after its last message.
            poll(self._is_removed, _REMOVAL_S)
            remove_if_empty(self.folder.parent)

    def _is_removed(self) -> bool:
        discard_tree(self.folder)
        return not self.folder.exists()


def meet(meetings: Path, patience_s: float) -> Meeting:
    """Meet another process in the folder `meetings`: one that waits there, or one that comes.

    IncompleteError if none comes within `patience_s`, StorageError if nothing can be written.
    """
    while True:
        numbers = [int(one) for one in fresh_names(meetings) if _NUMBER.fullmatch(one)]
        last = max(numbers, default=1)
        # In the last one two others may be at work.
        for folder in (meetings / f"{number:04d}" for number in (last, last + 1)):
            first, second = (Meeting(folder, role, patience_s) for role in ROLES)
            if _arrive(first):
                return _welcome_second(first, patience_s)
            if _arrive(second):
                if second.hears("welcome", _WELCOME_S):
                    return second
                # The first was killed while it waited. Without the folder all meet in the next one.
                discard_tree(folder)


def _welcome_second(first: Meeting, patience_s: float) -> Meeting:
    if not first.hears("arrived", patience_s):
        first.close()
        raise IncompleteError(
            f"no second process came to {first.folder.parent} in {patience_s:.0f} s: run the same "
            f"command on the other host, with its own path to this folder"
        )
    first.say("welcome")
    return first


def _arrive(meeting: Meeting) -> bool:
    # The processes of an earlier meeting may just remove the folder.
    with suppress(FileNotFoundError):
        return write_json_exclusive(meeting.folder / f"arrived.{meeting.role}.json", {})
    return False


def remove_if_empty(folder: Path) -> None:
    """Remove `folder` unless another process uses it."""
    with suppress(OSError):
        folder.rmdir()


def poll(condition: Callable[[], bool], patience_s: float) -> float | None:
    """Seconds until `condition()` held; None if it did not within `patience_s`."""
    start, pause_s = time.monotonic(), _POLL_S
    while not condition():
        if time.monotonic() - start > patience_s:
            return None
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_POLL_S)
    return time.monotonic() - start
