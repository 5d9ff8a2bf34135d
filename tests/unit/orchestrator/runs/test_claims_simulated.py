"""Claims among hosts that share a folder by NFS: all that must hold in any order of operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated_disk import (
    ATTRIBUTES_REMEMBERED_S,
    FileServer,
    SimulatedClock,
    SimulatedDisk,
    World,
    interleave,
)

from merge.records.records import Claim, Owner, read_claim
from merge.records.result import Result, read_result
from merge.storage.paths import RunPaths
from orchestrator.runs.claims import Busy, Finished, Taken, beat, holds, release, take
from orchestrator.runs.commit import Aside, commit_result
from orchestrator.runs.heartbeat_watch import HeartbeatWatch

HASH = "0123456789abcdef"
RUN = Path("/out/run")
EXPIRY_S = 60.0


@dataclass
class Referee:
    """Sees the server as it is, and notes what breaks a promise."""

    world: World
    server: FileServer
    result: bytes | None = None
    written: dict[int, list[float]] = field(default_factory=dict)
    """When the content of each claim's file was written, by the claim's number.

    Not when it got its name: an owner that is stopped in between has been silent since it wrote.
    """

    def see(self, path: Path) -> None:
        """Of a name that appears on the server."""
        content = self.server.files[path].content
        if path == self.paths.result:
            assert self.result in (None, content), "a result was replaced"
            self.result = content
        if number := self.paths.claim_number(str(path)):
            if number not in self.written and number > 1:
                self._see_overtaking(number - 1)
            self.written.setdefault(number, []).append(self.server.files[path].st_mtime)

    def _see_overtaking(self, number: int) -> None:
        if self._read(number).released:
            return
        times = [*self.written[number], self.world.time]
        longest_gap = max(end - begin for begin, end in pairwise(times))
        # An owner that is silent for less than it promised is never overtaken; what a client
        # remembers of a file's time may make it seem a little older.
        assert longest_gap > EXPIRY_S - ATTRIBUTES_REMEMBERED_S, times

    def owner_of_run(self) -> str:
        """The token of the highest claim, as the server has it."""
        return self._read(max(self.written)).token

    @property
    def paths(self) -> RunPaths:
        server = FileServer(World(), self.server.files, self.server.folders)
        return RunPaths(RUN, SimulatedDisk(server))

    def _read(self, number: int) -> Claim:
        return read_claim(self.paths.claim(number), self.paths.disk)


@dataclass
class Host:
    """One executor that wants the run, until the run has its result."""

    name: str
    referee: Referee
    disk: SimulatedDisk
    clock: SimulatedClock
    beats: int
    """How many heartbeats an attempt takes."""
    beat_every_s: float
    owner: Owner = field(init=False)

    def __post_init__(self) -> None:
        self.owner = Owner(host=self.name, pid=1, pid_started="1", boot_id=self.name)

    def work(self) -> None:
        paths, watch = RunPaths(RUN, self.disk), HeartbeatWatch(self.clock)
        while True:
            taking = take(
                paths, HASH, self.owner, now=self.clock.now(), expiry_s=EXPIRY_S, watch=watch
            )
            if isinstance(taking, Finished):
                return
            if isinstance(taking, Taken):
                self._attempt(paths, taking.claim)
            else:
                self.clock.sleep(EXPIRY_S / 6)

    def _attempt(self, paths: RunPaths, claim: Claim) -> None:
        num_beats = self.beats
        # Fewer each time: owners that are always late would overtake each other for ever.
        self.beats //= 2
        for _ in range(num_beats):
            self.clock.sleep(self.beat_every_s)
            claim = beat(paths, claim, now=self.clock.now())
            if not holds(paths, claim):
                break
        self._commit(paths, claim)
        release(paths, claim)

    def _commit(self, paths: RunPaths, claim: Claim) -> None:
        was_late = self.referee.owner_of_run() != claim.token
        aside = commit_result(paths, claim, result_of(claim))
        if was_late:
            assert isinstance(aside, Aside), "the result of a late owner was counted"


def result_of(claim: Claim) -> Result:
    return Result(
        run_id="run",
        config_hash=HASH,
        axes={},
        metrics={"score": 0.5},
        attempt=claim.number,
        token=claim.token,
        started=1.0,
        finished=2.0,
    )


HOSTS = st.tuples(
    st.sampled_from([0, 1, 3, 12]),
    st.sampled_from([5.0, 10.0, 59.0, 70.0]),
    st.sampled_from([-1e6, -30.0, 0.0, 30.0, 1e6]),
    st.booleans(),
    st.sampled_from([None, None, 5, 9, 14, 20, 40]),
)
STEPS = st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, 5.0, 61.0, 1000.0]))
"""Which host does its next operation, and after how many seconds."""


@settings(max_examples=300, deadline=None)
@given(
    hosts=st.lists(HOSTS, min_size=2, max_size=3),
    schedule=st.lists(STEPS, min_size=0, max_size=300),
)
def test_one_owner_and_one_result_in_any_order_of_operations(hosts, schedule):
    """Also where clocks are wrong by days, hosts die at any operation and replies are lost."""
    world = World()
    server = FileServer(world)
    referee = Referee(world, server)
    server.on_new_name = referee.see
    executors = [
        Host(
            name=f"host{index}",
            referee=referee,
            disk=SimulatedDisk(server, loses_replies=loses_replies, crashes_after=crashes_after),
            clock=SimulatedClock(world, offset_s, booted=index * 1e5),
            beats=beats,
            beat_every_s=every_s,
        )
        for index, (beats, every_s, offset_s, loses_replies, crashes_after) in enumerate(hosts)
    ]
    # One that comes later and never dies: no death of another needs a person to go on.
    last = Host(
        name="last",
        referee=referee,
        disk=SimulatedDisk(server),
        clock=SimulatedClock(world),
        beats=1,
        beat_every_s=5.0,
    )
    interleave(world, [host.work for host in executors], schedule)
    interleave(world, [last.work], [])
    assert referee.result is not None
    paths = referee.paths
    result = read_result(paths.result, paths.disk)
    assert result.token in {
        read_claim(paths.claim(number), paths.disk).token for number in paths.claim_numbers()
    }


@dataclass
class StoppableClock(SimulatedClock):
    """Of a process that can also be stopped just before it looks at the clock."""

    last_look: int = 0
    """How many operations there were up to the last look."""

    def monotonic(self) -> float:
        self.world.before_operation()
        if isinstance(self.world.before_operation, Stop):
            self.last_look = self.world.before_operation.num_seen
        return self.world.time - self.booted


@dataclass
class Stop:
    """Stops the process before its operation `at`, while `meanwhile` happens every 10 seconds."""

    world: World
    at: int
    meanwhile: Callable[[], object]
    seconds: int = 70
    num_seen: int = 0

    def __call__(self) -> None:
        self.num_seen += 1
        if self.num_seen != self.at:
            return
        self.world.before_operation = lambda: None
        for _ in range(0, self.seconds, 10):
            self.world.time += 10
            self.meanwhile()
        self.world.before_operation = self


@dataclass
class Pair:
    """An owner on one host, and a process on another that wants its run."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        server = FileServer(self.world)
        self.owner, self.heir = RunPaths(RUN, SimulatedDisk(server)), SimulatedDisk(server)
        self.clock = StoppableClock(self.world)
        self.watch = HeartbeatWatch(self.clock)
        taken = self._take(self.owner, "owner", HeartbeatWatch(SimulatedClock(self.world)))
        assert isinstance(taken, Taken)
        self.claim = taken.claim

    def beat(self) -> None:
        self.claim = beat(self.owner, self.claim, now=self.world.time)

    def take_over(self) -> Taken | Busy | Finished:
        return self._take(RunPaths(RUN, self.heir), "heir", self.watch)

    def _take(self, paths: RunPaths, host: str, watch: HeartbeatWatch) -> Taken | Busy | Finished:
        owner = Owner(host=host, pid=1, pid_started="1", boot_id=host)
        return take(paths, HASH, owner, now=self.world.time, expiry_s=EXPIRY_S, watch=watch)


@pytest.mark.parametrize("seconds", [40, 70])
def test_a_process_that_is_stopped_while_it_looks_does_not_overtake_a_live_owner(seconds):
    """At whichever operation: what it has read grows old, but not the owner."""
    at, was_stopped = 0, True
    while was_stopped:
        at += 1
        pair = Pair()
        assert isinstance(pair.take_over(), Busy)
        pair.world.time += EXPIRY_S / 2
        stop = pair.world.before_operation = Stop(pair.world, at, pair.beat, seconds)
        assert isinstance(pair.take_over(), Busy), f"stopped before operation {at}"
        was_stopped = stop.num_seen >= at
    assert at > 5


def test_a_process_that_is_stopped_once_it_has_looked_looks_again():
    """The owner was silent for too long, and comes back while the other process is stopped."""
    pair = silent_pair(stopped_before=0)
    assert isinstance(pair.take_over(), Taken)
    # What follows its last look at the clock is the writing of its own claim.
    for at in range(1, pair.clock.last_look + 1):
        pair = silent_pair(stopped_before=at)
        assert isinstance(pair.take_over(), Busy), f"stopped before operation {at}"


def silent_pair(stopped_before: int) -> Pair:
    pair = Pair()
    pair.world.time += EXPIRY_S + 1
    pair.world.before_operation = Stop(pair.world, stopped_before, pair.beat)
    return pair
