"""What two processes, be it on two hosts, try on one folder: evidence, not verdicts.

`python -m orchestrator.doctor.folder_probe MEETINGS NAME PATIENCE_S` is the second process.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from merge.storage.atomic import write_atomic
from merge.storage.json_files import read_json, write_json
from merge.storage.nfs import fresh_names
from orchestrator.doctor.rendezvous import Meeting, meet, poll

NUM_ROUNDS = 60
NUM_OVERWRITES = 60
_ROUND_S = 0.015
_JITTER_S = 0.008
"""More than the error in the distance of the two clocks: else one of them would win all races."""
_HEAD_START_S = 0.3
_SEEN_PATIENCE_S = 2.5
_OWN_PATIENCE_S = 10.0
"""For papergrid's own way of looking; the others it does without."""
_TICK_S = 0.1
"""Longer than a server's time stamps last: what changes twice within one is not told apart."""
_BLOCK = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one of the two processes has seen."""

    host: str
    clock_ahead_s: float
    """Of this host's clock, before that of the files that it writes."""
    won: Mapping[str, list[int]]
    """Rounds that this process won, by way of creating."""
    torn: int = 0
    """Reads of a file under rename that held a part, nothing, or two contents."""
    backwards: int = 0
    """Reads that held less than an earlier one."""
    gone: int = 0
    """Reads that found the file missing or stale."""
    seen_after_s: Mapping[str, float | None] = field(default_factory=dict)
    """Way of looking -> how long after the other one wrote; None for longer than we waited."""
    locks: Mapping[str, str] = field(default_factory=dict)
    """Native lock -> `excludes`, `two holders`, or the error."""
    peer_ahead_s: float | None = None
    """The other host's clock before ours, give or take the time of a message."""


def examine(meeting: Meeting, host: str) -> tuple[Evidence, Evidence]:
    """Try everything together with the other process; returns own evidence and the other's."""
    ahead_s = _clock_ahead_s(meeting)
    peer_ahead_s = _peer_ahead_s(meeting)
    won = {way: _race(meeting, way, peer_ahead_s) for way in _WAYS}
    own = Evidence(
        host=host,
        clock_ahead_s=ahead_s,
        won=won,
        seen_after_s=_look_for_new_files(meeting) | _look_for_overwrites(meeting),
        locks=_try_locks(meeting),
        peer_ahead_s=peer_ahead_s,
        **_rename_under_reader(meeting),
    )
    return own, Evidence(**meeting.step("evidence", **asdict(own)))


def _clock_ahead_s(meeting: Meeting) -> float:
    path = meeting.folder / f"clock.{meeting.role}"
    before = time.time()
    write_json(path, {})
    return (before + time.time()) / 2 - path.stat().st_mtime


def _peer_ahead_s(meeting: Meeting) -> float:
    """From both directions, so that a slow message does not count as a fast clock."""
    meeting.step("clocks-begin")
    if meeting.role == "first":
        sent = time.time()
        stamp = float(meeting.step("clocks")["time"])
        ahead_s = stamp - (sent + time.time()) / 2
        meeting.say("clocks-end", ahead_s=ahead_s)
        return ahead_s
    meeting.hear("clocks")
    meeting.say("clocks", time=time.time())
    return -float(meeting.hear("clocks-end")["ahead_s"])


_WAYS: Mapping[str, Callable[[Path, Path], object]] = {
    "link": os.link,
    "create": lambda _, target: target.open("x").close(),
    "mkdir": lambda _, target: target.mkdir(),
}


def _race(meeting: Meeting, way: str, peer_ahead_s: float) -> list[int]:
    """Rounds that this process won, of NUM_ROUNDS that both begin at one moment each."""
    source = meeting.folder / f"race-{way}.{meeting.role}"
    write_json(source, {})
    meeting.step(f"race-{way}-ready")
    if meeting.role == "first":
        begin = time.time() + _HEAD_START_S
        meeting.say(f"race-{way}", begin=begin)
    else:
        # The same moment, by this host's clock.
        begin = float(meeting.hear(f"race-{way}")["begin"]) - peer_ahead_s
    won = []
    for number in range(NUM_ROUNDS):
        _sleep_until(begin + number * _ROUND_S + random.uniform(0, _JITTER_S))
        try:
            _WAYS[way](source, meeting.folder / f"race-{way}-{number}")
        except FileExistsError:
            continue
        won.append(number)
    return won


def _sleep_until(moment: float) -> None:
    left = moment - time.time()
    if left > 0:
        time.sleep(left)


def _rename_under_reader(meeting: Meeting) -> dict[str, int]:
    """Each one reads in turn what the other one replaces."""
    seen = {"torn": 0, "backwards": 0, "gone": 0}
    for writer in ("first", "second"):
        path = meeting.folder / f"renamed-by-{writer}"
        if meeting.role == writer:
            _replace(path, 1)
            meeting.step(f"rename-{writer}")
            for number in range(2, NUM_OVERWRITES + 1):
                _replace(path, number)
            meeting.step(f"renamed-{writer}")
        else:
            meeting.step(f"rename-{writer}")
            seen = _read_until_last(path)
            meeting.step(f"renamed-{writer}")
    return seen


def _replace(path: Path, number: int) -> None:
    write_atomic(path, lambda file: file.write(f"{number:8d}".encode() * (_BLOCK // 8)))


def _read_until_last(path: Path) -> dict[str, int]:
    seen = {"torn": 0, "backwards": 0, "gone": 0}
    last = 0
    deadline = time.monotonic() + 30
    while last < NUM_OVERWRITES and time.monotonic() < deadline:
        fresh_names(path.parent)
        try:
            data = path.read_bytes()
        except OSError:
            seen["gone"] += 1
            continue
        words = {data[at : at + 8] for at in range(0, len(data), 8)}
        if len(data) != _BLOCK or len(words) != 1:
            seen["torn"] += 1
            continue
        number = int(words.pop())
        seen["backwards"] += number < last
        last = max(last, number)
    return seen


def _look_for_new_files(meeting: Meeting) -> dict[str, float | None]:
    """How soon a file is seen that was not there when it was first looked for."""
    ways: dict[str, Callable[[Path], bool]] = {
        "new, listed": lambda path: path.name in fresh_names(path.parent) and _opens(path),
        "new, opened": _opens,
        "new, exists": Path.exists,
    }
    found: dict[str, float | None] = {}
    # Listing tells the system of all that is new: it comes last.
    for way in reversed(ways):
        slug = way.replace(", ", "-")
        theirs = meeting.folder / f"{slug}.{meeting.other}"
        ways[way](theirs)
        meeting.step(f"{slug}-before")
        time.sleep(_TICK_S)
        write_json(meeting.folder / f"{slug}.{meeting.role}", {})
        found[way] = poll(partial(ways[way], theirs), _patience_s(way))
        meeting.step(f"{slug}-after")
    return found


def _look_for_overwrites(meeting: Meeting) -> dict[str, float | None]:
    """How soon a replaced file is seen, opened after a listing and by itself."""
    found: dict[str, float | None] = {}
    for way in ("replaced, opened", "replaced, listed"):
        slug = way.replace(", ", "-")
        theirs = meeting.folder / f"{slug}.{meeting.other}"
        ours = meeting.folder / f"{slug}.{meeting.role}"
        write_json(ours, {"value": 1})
        meeting.step(f"{slug}-before")
        assert read_json(theirs)
        meeting.step(f"{slug}-read")
        time.sleep(_TICK_S)
        write_json(ours, {"value": 2})

        def is_new(path: Path = theirs, lists: bool = way.endswith("listed")) -> bool:
            if lists:
                fresh_names(path.parent)
            return read_json(path) == {"value": 2}

        found[way] = poll(is_new, _patience_s(way))
        meeting.step(f"{slug}-after")
    return found


def _patience_s(way: str) -> float:
    return _OWN_PATIENCE_S if way.endswith("listed") else _SEEN_PATIENCE_S


def _try_locks(meeting: Meeting) -> dict[str, str]:
    found = {}
    for name, lock in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
        path = meeting.folder / f"lock-{name}"
        with path.open("ab") as file:
            if meeting.role == "first":
                held = _try_lock(lock, file.fileno())
                meeting.step(f"{name}-held", held=held)
                tried = meeting.step(f"{name}-tried")["tried"]
            else:
                held = meeting.step(f"{name}-held")["held"]
                tried = _try_lock(lock, file.fileno())
                meeting.step(f"{name}-tried", tried=tried)
        found[name] = _lock_text(held, tried)
    return found


def _try_lock(lock: Callable[[int, int], None], descriptor: int) -> str:
    try:
        lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "busy"
    except OSError as error:
        return error.strerror or str(error)
    return "held"


def _lock_text(held: str, tried: str) -> str:
    if held != "held":
        return held
    return {"busy": "excludes", "held": "two holders"}.get(tried, tried)


def _opens(path: Path) -> bool:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return False
    return True


def main(meetings: Path, name: str, patience_s: float) -> None:
    meeting = meet(meetings, name, patience_s)
    examine(meeting, name)
    meeting.part()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
