"""What two processes, on one host or on two, try in one folder, and what that says of the folder.

`python -m orchestrator.doctor.trials FOLDER PATIENCE_S` is the second process of one host.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from merge.storage.atomic import write_bytes
from merge.storage.json_files import Json, read_json, write_json
from merge.storage.nfs import clock_of, fresh_names
from orchestrator.doctor.check import Check, Verdict
from orchestrator.doctor.meeting import ROLES, Meeting, poll

NUM_ROUNDS = 60
NUM_OVERWRITES = 60
_ROUND_S = 0.015
_JITTER_S = 0.008
"""More than the error in the distance of the two clocks: else one process would win all races."""
_HEAD_START_S = 0.3
_TICK_S = 0.1
"""Longer than a server's time stamps last: two changes within one look like one."""
_BLOCK_WORDS = 2048
_READS_PER_OVERWRITE = 20
_GONE, _TORN = 0, -1
_SIGHT_S = 10.0
_UNUSED_SIGHT_S = 2.5
_TOLERATED_DELAY_S = 3.0
_TOLERATED_SKEW_S = 1.0
_SKEW_THAT_EXPIRES_CLAIMS_S = 15.0
_UNUSED = "(papergrid does not rely on it)"
_CHOOSE_ANOTHER = "choose another folder: several processes on this one would lose results"
_SLOW = "set --claim-expiry to some minutes where several hosts share this folder"
DOOMED = "do not let several hosts share this folder; use one host, or another folder"


@dataclass(frozen=True, slots=True)
class Sight:
    """Each process writes a file, and looks for the other's in one way."""

    name: str
    sees: Callable[[Path], bool]
    is_replaced: bool
    is_used: bool

    def run(self, meeting: Meeting) -> float | None:
        """Seconds until this process sees the other's file; None if not in time."""
        ours, theirs = meeting.files(self.name)
        if self.is_replaced:
            write_json(ours, {"value": 1})
        meeting.exchange(f"{self.name}, before", None)
        # Now the client has an answer to remember: the first content, or that there is no file.
        self.sees(theirs)
        meeting.exchange(f"{self.name}, looked", None)
        time.sleep(_TICK_S)
        write_json(ours, {"value": 2})
        return poll(lambda: self.sees(theirs), _SIGHT_S if self.is_used else _UNUSED_SIGHT_S)

    def judge(self, own: float | None, other: float | None) -> Check:
        slower_s = None if own is None or other is None else max(own, other)
        numbers = {"seconds": slower_s}
        finding = "not seen in time" if slower_s is None else f"seen after {slower_s:.2f} s"
        if not self.is_used:
            return Check(self.name, "ok", f"{finding} {_UNUSED}", numbers=numbers)
        if slower_s is None:
            return Check(self.name, "refused", finding, DOOMED, numbers)
        verdict: Verdict = "ok" if slower_s <= _TOLERATED_DELAY_S else "warning"
        return Check(self.name, verdict, finding, _SLOW, numbers)


@dataclass(frozen=True, slots=True)
class Race:
    """Both processes create the same names at the same moments."""

    name: str
    create: Callable[[Path, Path], object]
    problem: Verdict

    def run(self, meeting: Meeting) -> list[int]:
        """The rounds that this process won."""
        source, _ = meeting.files(self.name)
        write_json(source, {})
        won = []
        begin = self._begin(meeting)
        for number in range(NUM_ROUNDS):
            moment = begin + number * _ROUND_S + random.uniform(0, _JITTER_S)
            time.sleep(max(0.0, moment - time.time()))
            with suppress(FileExistsError):
                self.create(source, meeting.folder / f"{self.name}-{number}")
                won.append(number)
        return won

    def _begin(self, meeting: Meeting) -> float:
        """One moment for both, by the clock of this host."""
        meeting.exchange(f"{self.name}, ready", None)
        begin = time.time() + _HEAD_START_S
        other_begin = meeting.exchange(f"{self.name}, begin", begin)
        return begin if meeting.role == "first" else other_begin - meeting.peer_ahead_s

    def judge(self, own: list[int], other: list[int]) -> Check:
        ours, theirs = set(own), set(other)
        both, without = len(ours & theirs), NUM_ROUNDS - len(ours | theirs)
        numbers = {"rounds": NUM_ROUNDS, "both_won": both, "nobody_won": without}
        verdict = self.problem if both or without else "ok"
        score = f"({len(ours)} : {len(theirs)})"
        finding = f"{NUM_ROUNDS} races {score}: {both} with two winners, {without} with none"
        return Check(self.name, verdict, finding, _CHOOSE_ANOTHER, numbers)


class Rename:
    """Each process replaces a file again and again, and reads the other's in between."""

    name = "rename is atomic"

    def run(self, meeting: Meeting) -> dict[str, int]:
        """Reads that found a part or two contents, no file, and an older content than before."""
        ours, theirs = meeting.files(self.name)
        write_bytes(ours, _block(1))
        meeting.exchange(f"{self.name}, begin", None)
        reads: list[int] = []
        for number in range(2, NUM_OVERWRITES + 1):
            write_bytes(ours, _block(number))
            reads += [_read_block(theirs) for _ in range(_READS_PER_OVERWRITE)]
        whole = [number for number in reads if number > 0]
        backwards = sum(later < earlier for earlier, later in pairwise(whole))
        return {"torn": reads.count(_TORN), "backwards": backwards, "gone": reads.count(_GONE)}

    def judge(self, own: dict[str, int], other: dict[str, int]) -> Check:
        numbers = {kind: own[kind] + other[kind] for kind in own}
        finding = f"{numbers['torn'] or 'no'} reads held a part of a file"
        verdict: Verdict = "refused" if numbers["torn"] else "ok"
        return Check(self.name, verdict, finding, _CHOOSE_ANOTHER, numbers)


def _block(number: int) -> bytes:
    return f"{number:8d}".encode() * _BLOCK_WORDS


def _read_block(path: Path) -> int:
    """The number of the block in `path`, _GONE or _TORN."""
    fresh_names(path.parent)
    try:
        data = path.read_bytes()
    except OSError:
        return _GONE
    number = data[:8]
    return int(number) if number and data == number * _BLOCK_WORDS else _TORN


class Clocks:
    """How far the clocks of both hosts and of the file system are from each other."""

    name = "clocks agree"

    def run(self, meeting: Meeting) -> dict[str, Json]:
        before = time.time()
        stamp = clock_of(meeting.folder)
        return {
            "host": os.uname().nodename,
            "ahead_of_files_s": round((before + time.time()) / 2 - stamp, 3),
            "peer_ahead_s": round(meeting.peer_ahead_s, 3),
        }

    def judge(self, own: dict[str, Any], other: dict[str, Any]) -> Check:
        skew_s = abs(own["peer_ahead_s"])
        # Where the server stamps files, the hosts' distances to its clock differ by their skew.
        distance_s = other["ahead_of_files_s"] - own["ahead_of_files_s"]
        unexplained_s = abs(distance_s - own["peer_ahead_s"])
        numbers = {**own, "files_stamped_by_one_clock": unexplained_s < _TOLERATED_SKEW_S}
        finding = f"{other['host']} and {own['host']} differ by {skew_s:.1f} s"
        if unexplained_s > _SKEW_THAT_EXPIRES_CLAIMS_S:
            why = "each host stamps files by its own clock: a live host's claims would look expired"
            return Check(
                self.name, "refused", f"{finding}, and {why}", "set both clocks (NTP)", numbers
            )
        verdict: Verdict = "ok" if skew_s <= _TOLERATED_SKEW_S else "warning"
        fix = "set both clocks (NTP): claims are safe, the times shown are wrong"
        return Check(self.name, verdict, finding, fix, numbers)


@dataclass(frozen=True, slots=True)
class Lock:
    """The second process asks for a native lock that the first one holds."""

    name: str
    lock: Callable[[int, int], None]

    def run(self, meeting: Meeting) -> str:
        """`held`, `busy`, or the error."""
        result = ""
        with (meeting.folder / self.name).open("ab") as file:
            for role in ROLES:
                if meeting.role == role:
                    result = self._ask(file.fileno())
                meeting.exchange(f"{self.name}, {role}", None)
        return result

    def _ask(self, descriptor: int) -> str:
        try:
            self.lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "busy"
        except OSError as error:
            return error.strerror or str(error)
        return "held"

    def judge(self, own: str, other: str) -> Check:
        errors = {own, other} - {"held", "busy"}
        result = ", ".join(sorted(errors)) or ("two holders" if own == other else "excludes")
        return Check(self.name, "ok", f"{result} {_UNUSED}", numbers={"result": result})


def _opens(path: Path) -> bool:
    try:
        return read_json(path) == {"value": 2}
    except FileNotFoundError:
        return False


def _lists_and_opens(path: Path) -> bool:
    return path.name in fresh_names(path.parent) and _opens(path)


TRIALS: tuple[Sight | Race | Rename | Clocks | Lock, ...] = (
    # Listing makes an NFS client ask the server for all that is new, so the listed ways come last.
    Sight("a new file, asked for with exists()", Path.exists, is_replaced=False, is_used=False),
    Sight("a new file, opened at once", _opens, is_replaced=False, is_used=False),
    Sight("a new file, listed and opened", _lists_and_opens, is_replaced=False, is_used=True),
    Sight("a replaced file, opened at once", _opens, is_replaced=True, is_used=False),
    Sight("a replaced file, listed and opened", _lists_and_opens, is_replaced=True, is_used=True),
    Rename(),
    # Claims and results are made by link alone.
    Race("link excludes", os.link, "refused"),
    Race("create excludes", lambda _, target: target.open("x").close(), "warning"),
    Race("mkdir excludes", lambda _, target: target.mkdir(), "warning"),
    Clocks(),
    Lock("native lock (flock)", fcntl.flock),
    Lock("native lock (fcntl)", fcntl.lockf),
)


def examine(meeting: Meeting) -> list[Check]:
    """Try everything together with the other process."""
    checks = []
    for trial in TRIALS:
        own: Any = trial.run(meeting)
        checks.append(trial.judge(own, meeting.exchange(trial.name, own)))
    return checks


if __name__ == "__main__":
    examine(Meeting(Path(sys.argv[1]), "second", float(sys.argv[2])))
