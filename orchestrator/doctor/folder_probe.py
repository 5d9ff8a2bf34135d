"""What two processes, on one host or on two, try in one folder: evidence, not verdicts.

`python -m orchestrator.doctor.folder_probe MEETINGS NAME PATIENCE_S` is the second process.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from merge.storage.atomic import write_atomic
from merge.storage.json_files import read_json, write_json
from merge.storage.nfs import clock_of, fresh_names
from orchestrator.doctor.rendezvous import Meeting, meet, poll

NUM_ROUNDS = 60
NUM_OVERWRITES = 60
_ROUND_S = 0.015
_JITTER_S = 0.008
"""More than the error in the distance of the two clocks: else one process would win all races."""
_HEAD_START_S = 0.3
_TICK_S = 0.1
"""Longer than a server's time stamps last: two changes within one look like one."""
_BLOCK = 16384
_READ_S = 30.0
_LOCKS: Mapping[str, Callable[[int, int], None]] = {"flock": fcntl.flock, "fcntl": fcntl.lockf}


def _shows_second(path: Path) -> bool:
    try:
        return read_json(path) == {"value": 2}
    except FileNotFoundError:
        return False


def _lists_and_shows_second(path: Path) -> bool:
    return path.name in fresh_names(path.parent) and _shows_second(path)


_CREATE: Mapping[str, Callable[[Path, Path], object]] = {
    "link": os.link,
    "create": lambda _, target: target.open("x").close(),
    "mkdir": lambda _, target: target.mkdir(),
}
_LOOK: Mapping[str, tuple[Callable[[Path], bool], float]] = {
    # Listing makes an NFS client ask the server for all that is new, so the listed ways come last.
    "new, exists": (Path.exists, 2.5),
    "new, opened": (_shows_second, 2.5),
    "new, listed": (_lists_and_shows_second, 10.0),
    "replaced, opened": (_shows_second, 2.5),
    "replaced, listed": (_lists_and_shows_second, 10.0),
}
"""Way of looking -> (whether the second content is seen, for how many seconds to try)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one of the two processes has seen."""

    host: str
    clock_ahead_s: float
    """How far this host's clock is ahead of the time stamps of files that it writes."""
    won: Mapping[str, list[int]]
    """Way of creating -> rounds that this process won."""
    torn: int = 0
    """Reads of a file under rename that held a part, nothing, or two contents."""
    backwards: int = 0
    """Reads that held an older content than an earlier read."""
    gone: int = 0
    """Reads that found the file missing or stale."""
    seen_after_s: Mapping[str, float | None] = field(default_factory=dict)
    """Way of looking -> seconds after the other process wrote; None if not seen in time."""
    locks: Mapping[str, str] = field(default_factory=dict)
    """Native lock -> `excludes`, `two holders`, or the error."""
    peer_ahead_s: float | None = None
    """How far the other host's clock is ahead, exact to the time that a message takes."""


def examine(meeting: Meeting, host: str) -> tuple[Evidence, Evidence]:
    """Try everything together with the other process; own evidence and the other's."""
    before = time.time()
    stamp = clock_of(meeting.folder)
    clock_ahead_s = (before + time.time()) / 2 - stamp
    peer_ahead_s = _peer_ahead_s(meeting)
    own = Evidence(
        host=host,
        clock_ahead_s=clock_ahead_s,
        won={way: _race(meeting, way, peer_ahead_s) for way in _CREATE},
        seen_after_s={way: _look(meeting, way) for way in _LOOK},
        locks={name: _try_lock(meeting, name) for name in _LOCKS},
        peer_ahead_s=peer_ahead_s,
        **_rename_under_reader(meeting),
    )
    other = Evidence(**meeting.step("evidence", **asdict(own)))
    # The first process removes the folder: not before the second has read the evidence.
    if meeting.role == "first":
        meeting.hear("leaves")
    else:
        meeting.say("leaves")
    return own, other


def _peer_ahead_s(meeting: Meeting) -> float:
    meeting.step("clocks-begin")
    if meeting.role == "second":
        meeting.hear("clocks")
        meeting.say("clocks", time=time.time())
        return -float(meeting.hear("clocks-end")["ahead_s"])
    sent = time.time()
    stamp = float(meeting.step("clocks")["time"])
    # Compared with the middle of both ways, so that a slow message is not a fast clock.
    ahead_s = stamp - (sent + time.time()) / 2
    meeting.say("clocks-end", ahead_s=ahead_s)
    return ahead_s


def _race(meeting: Meeting, way: str, peer_ahead_s: float) -> list[int]:
    """The rounds that this process won, of NUM_ROUNDS that both begin at the same moment."""
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
        moment = begin + number * _ROUND_S + random.uniform(0, _JITTER_S)
        time.sleep(max(0.0, moment - time.time()))
        with suppress(FileExistsError):
            _CREATE[way](source, meeting.folder / f"race-{way}-{number}")
            won.append(number)
    return won


def _rename_under_reader(meeting: Meeting) -> dict[str, int]:
    """Each process in turn reads what the other one replaces."""
    seen: Mapping[str, int] = {}
    for writer in ("first", "second"):
        path = meeting.folder / f"renamed-by-{writer}"
        if meeting.role == writer:
            _replace(path, 1)
        meeting.step(f"rename-{writer}")
        if meeting.role == writer:
            for number in range(2, NUM_OVERWRITES + 1):
                _replace(path, number)
        else:
            seen = _read_until_last(path)
        meeting.step(f"renamed-{writer}")
    return {kind: seen.get(kind, 0) for kind in ("torn", "backwards", "gone")}


def _replace(path: Path, number: int) -> None:
    write_atomic(path, lambda file: file.write(f"{number:8d}".encode() * (_BLOCK // 8)))


def _read_until_last(path: Path) -> Mapping[str, int]:
    seen: Counter[str] = Counter()
    last = 0
    deadline = time.monotonic() + _READ_S
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


def _look(meeting: Meeting, way: str) -> float | None:
    """Seconds until this process sees a file that the other one has just made or replaced."""
    sees, patience_s = _LOOK[way]
    slug = way.replace(", ", "-")
    ours, theirs = (meeting.folder / f"{slug}.{one}" for one in (meeting.role, meeting.other))
    if way.startswith("replaced"):
        write_json(ours, {"value": 1})
    meeting.step(f"{slug}-before")
    # Now the client has an answer to remember: the first content, or that there is no file.
    sees(theirs)
    meeting.step(f"{slug}-looked")
    time.sleep(_TICK_S)
    write_json(ours, {"value": 2})
    seen_after_s = poll(lambda: sees(theirs), patience_s)
    meeting.step(f"{slug}-after")
    return seen_after_s


def _try_lock(meeting: Meeting, name: str) -> str:
    """What the second process gets when it asks for a lock that the first one holds."""
    results = {}
    with (meeting.folder / f"lock-{name}").open("ab") as file:
        for role in ("first", "second"):
            own = _lock(name, file.fileno()) if meeting.role == role else ""
            answer = meeting.step(f"{name}-{role}", result=own)["result"]
            results[role] = own or str(answer)
    if results["first"] != "held":
        return results["first"]
    return {"busy": "excludes", "held": "two holders"}.get(results["second"], results["second"])


def _lock(name: str, descriptor: int) -> str:
    try:
        _LOCKS[name](descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "busy"
    except OSError as error:
        return error.strerror or str(error)
    return "held"


if __name__ == "__main__":
    with closing(meet(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))) as _meeting:
        examine(_meeting, sys.argv[2])
