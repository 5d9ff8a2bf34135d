"""How two processes of `replicate doctor` find each other in a folder and exchange messages there.

Each message is a file, complete under its final name. This works on every file system on which one
process sees at some time what the other one writes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from merge.errors import IncompleteError
from merge.storage.atomic import make_folder
from merge.storage.disk import discard_tree
from merge.storage.json_files import Json, read_json, write_json_exclusive
from merge.storage.nfs import disturb, fresh_names

Role = Literal["first", "second"]

_POLL_S = 0.005
_LONGEST_POLL_S = 0.1
_LONGEST_SILENCE_S = 60.0
_WELCOME_S = 15.0
_TICK_S = 0.03
"""Longer than the steps in which file servers count time."""
_NUM_REMOVALS = 10
_NUMBER = re.compile(r"\d{4,}")


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two processes at work in one folder."""

    folder: Path
    role: Role
    patience_s: float

    @property
    def other(self) -> Role:
        return "second" if self.role == "first" else "first"

    def say(self, topic: str, **message: Json) -> None:
        """Send a message to the other process."""
        write_json_exclusive(self.folder / f"{topic}.{self.role}.json", message)
        # A folder's time stamp is all that an NFS client compares. Two messages within one tick of
        # the server's clock leave the same stamp, so a client could miss the second for ever.
        time.sleep(_TICK_S)
        disturb(self.folder)

    def hear(self, topic: str) -> dict[str, Any]:
        """The other process's message on `topic`. IncompleteError if none comes for too long."""
        path = self.folder / f"{topic}.{self.other}.json"
        if not self.hears(topic, self.patience_s):
            raise IncompleteError(
                f"no message from the other process in {self.patience_s:.0f} s ({path}): it died, "
                f"or this host does not see what it writes"
            )
        return read_json(path)

    def hears(self, topic: str, patience_s: float) -> bool:
        """Whether a message on `topic` comes within `patience_s`."""
        name = f"{topic}.{self.other}.json"
        return poll(lambda: name in fresh_names(self.folder), patience_s) is not None

    def step(self, topic: str, **message: Json) -> dict[str, Any]:
        """Send and receive: neither process continues before both have come to this line."""
        self.say(topic, **message)
        return self.hear(topic)

    def close(self) -> None:
        """Remove the folder; only the first process does."""
        if self.role == "second":
            return
        for _ in range(_NUM_REMOVALS):
            discard_tree(self.folder)
            if not self.folder.exists():
                break
            # The second process may still be in `disturb` after its last message.
            time.sleep(2 * _TICK_S)
        remove_if_empty(self.folder.parent)


def meet(meetings: Path, name: str, patience_s: float) -> Meeting:
    """Meet another process in the folder `meetings`: one that waits there, or one that comes.

    IncompleteError if none comes within `patience_s`, StorageError if nothing can be written.
    """
    make_folder(meetings)
    while True:
        numbers = [int(one) for one in fresh_names(meetings) if _NUMBER.fullmatch(one)]
        last = max(numbers, default=1)
        for number in (last, last + 1):
            meeting = _join(meetings / f"{number:04d}", name, patience_s)
            if meeting:
                return meeting


def _join(folder: Path, name: str, patience_s: float) -> Meeting | None:
    """A meeting in `folder`; None where two others meet or the first one is dead."""
    silence_s = min(patience_s, _LONGEST_SILENCE_S)
    first, second = (Meeting(folder, role, silence_s) for role in get_args(Role))
    if _arrive(first, name):
        if first.hears("arrived", patience_s):
            first.say("welcome")
            return first
        first.close()
        raise IncompleteError(
            f"no second process came to {folder.parent} in {patience_s:.0f} s: run the same "
            f"command on the other host, with its own path to this folder"
        )
    if not _arrive(second, name):
        return None
    if second.hears("welcome", _WELCOME_S):
        return second
    # The first process was killed while it waited. With the folder gone, all begin at one number.
    discard_tree(folder)
    return None


def _arrive(meeting: Meeting, name: str) -> bool:
    path = meeting.folder / f"arrived.{meeting.role}.json"
    # The processes of an earlier meeting may just remove the folder.
    with suppress(FileNotFoundError):
        return write_json_exclusive(path, {"name": name})
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
