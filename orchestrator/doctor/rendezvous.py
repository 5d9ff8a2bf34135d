"""How two processes of `replicate doctor` find each other in a folder, and talk by files in it.

One file a message, written whole under its final name; a listing tells that it is there. Works on
any file system on which one process ever sees what another one writes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from merge.errors import IncompleteError, StorageError
from merge.storage.atomic import make_folder
from merge.storage.disk import discard_tree
from merge.storage.json_files import Json, read_json, write_json_exclusive
from merge.storage.nfs import age_s, disturb, fresh_names

Role = Literal["first", "second"]

_POLL_S = 0.005
_LONGEST_POLL_S = 0.1
_STALE_AFTER_S = 900.0
_LONGEST_SILENCE_S = 60.0
_TICK_S = 0.03
"""Longer than the steps in which file servers count time."""
_NUM_REMOVALS = 10
_NUMBER = re.compile(r"\d{4,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Two processes at work in one folder."""

    folder: Path
    role: Role
    patience_s: float

    @property
    def other(self) -> Role:
        return "second" if self.role == "first" else "first"

    def say(self, topic: str, **words: Json) -> None:
        """Tell the other one.

        The folder is changed once more a little later: where both speak within one tick of the file
        server's clock, each could remember the folder as it was before the other spoke.
        """
        write_json_exclusive(self.folder / f"{topic}.{self.role}.json", words)
        time.sleep(_TICK_S)
        disturb(self.folder)

    def hear(self, topic: str) -> dict[str, Any]:
        """What the other one says on `topic`. IncompleteError if it says nothing for too long."""
        path = self.folder / f"{topic}.{self.other}.json"
        if poll(lambda: path.name in fresh_names(self.folder), self.patience_s) is None:
            raise IncompleteError(
                f"the other process was not heard for {self.patience_s:.0f} s ({path}): it died, "
                f"or what it writes is not seen here"
            )
        return read_json(path)

    def step(self, topic: str, **words: Json) -> dict[str, Any]:
        """Tell and hear: both are behind this line only when both have come to it."""
        self.say(topic, **words)
        return self.hear(topic)

    def part(self) -> None:
        """Tell that all is heard; the first one, who cleans up, waits for the second."""
        if self.role == "first":
            self.hear("leaves")
        else:
            self.say("leaves")

    def close(self) -> None:
        """Remove what was said, where this is the first one."""
        if self.role == "first":
            for _ in range(_NUM_REMOVALS):
                discard_tree(self.folder)
                if not self.folder.exists():
                    break
                # The second one was just changing the folder behind its last word.
                time.sleep(2 * _TICK_S)
            remove_if_empty(self.folder.parent)


def meet(meetings: Path, name: str, patience_s: float) -> Meeting:
    """Meet another process in the folder `meetings`: the one that waits there, or one to come.

    IncompleteError where nobody comes in `patience_s`, StorageError where the folder is refused.
    """
    make_folder(meetings)
    while True:
        number = max(1, _last(meetings))
        folder = meetings / f"{number:04d}"
        names = fresh_names(folder)
        if _arrival("first") in names:
            if _is_open(folder, names):
                if _arrive(folder, "second", name):
                    silence_s = min(patience_s, _LONGEST_SILENCE_S)
                    return Meeting(folder=folder, role="second", patience_s=silence_s)
                continue
            folder = meetings / f"{number + 1:04d}"
        # Also where somebody has just made the folder and not arrived yet: one of us will be first.
        if _arrive(folder, "first", name):
            return _await(folder, patience_s)


def remove_if_empty(folder: Path) -> None:
    """Remove `folder` unless somebody else uses it."""
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


def _await(folder: Path, patience_s: float) -> Meeting:
    meeting = Meeting(folder=folder, role="first", patience_s=min(patience_s, _LONGEST_SILENCE_S))
    arrival = _arrival("second")
    if poll(lambda: arrival in fresh_names(folder), patience_s) is None:
        meeting.close()
        raise IncompleteError(
            f"nobody was seen to come to {folder.parent} in {patience_s:.0f} s: run the same "
            f"command on the other host, with its own path to this folder"
        )
    return meeting


def _arrive(folder: Path, role: Role, name: str) -> bool:
    try:
        return write_json_exclusive(folder / _arrival(role), {"name": name})
    except FileNotFoundError as error:
        raise StorageError(f"{folder} was removed meanwhile: run the command again") from error


def _is_open(folder: Path, names: set[str]) -> bool:
    if _arrival("second") in names:
        return False
    try:
        return age_s(folder / _arrival("first")) < _STALE_AFTER_S
    except FileNotFoundError:
        return False


def _last(meetings: Path) -> int:
    numbers = [int(name) for name in fresh_names(meetings) if _NUMBER.fullmatch(name)]
    return max(numbers, default=0)


def _arrival(role: Role) -> str:
    return f"arrived.{role}.json"
