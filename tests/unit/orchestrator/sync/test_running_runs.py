"""Which runs of a folder are not pulled, because a live process trains them there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from support.bucket_trees import write_output
from support.grids import make_grid
from support.memory_bucket import MemoryBucket

from merge.storage.disk import SystemDisk
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Taken, beat, release, take
from orchestrator.s3.checksums import sha256_hex
from orchestrator.sync.listing import list_objects
from orchestrator.sync.pull import Pull
from orchestrator.sync.running import LONGEST_WATCH_S, Activity, ClaimWatch

RUN = make_grid().runs[0]
ELSEWHERE = replace(this_owner(), host="elsewhere")


@dataclass
class Clock:
    """Waits in no time; `beats` is what happens meanwhile."""

    passed_s: float = 0.0
    beats: Callable[[], object] | None = None

    def now(self) -> float:
        raise AssertionError("no clock of a host says who is running")

    def monotonic(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds
        if self.beats:
            self.beats()


def claim(output, owner, heartbeat=0.0, expiry_s=60.0):
    paths = SweepPaths(output).run(RUN.path)
    taken = take(paths, RUN.config_hash, owner, now=heartbeat, expiry_s=expiry_s)
    assert isinstance(taken, Taken)
    return taken.claim


def set_age(output, written, age_s):
    """The file system's time stamp, where it comes from a host whose clock is wrong."""
    path = SweepPaths(output).run(RUN.path).claim(written.number)
    moment = time.time() - age_s
    os.utime(path, (moment, moment))


@pytest.mark.parametrize("age_s", [-7200, 0, 300, 7200])
def test_a_claim_of_another_host_is_watched_whatever_its_file_says(tmp_path, age_s):
    written = claim(tmp_path, ELSEWHERE, time.time() - age_s)
    set_age(tmp_path, written, age_s)
    clock = Clock()
    watch = ClaimWatch(tmp_path, clock)
    assert watch.look(RUN) is Activity.UNKNOWN
    clock.passed_s = 59.9
    assert watch.look(RUN) is Activity.UNKNOWN
    clock.passed_s = 60.0
    assert watch.look(RUN) is Activity.IDLE


@pytest.mark.parametrize("age_s", [-7200, 300, 7200])
def test_a_heartbeat_shows_a_live_owner_whatever_its_clock_says(tmp_path, age_s):
    written = claim(tmp_path, ELSEWHERE)
    set_age(tmp_path, written, age_s)
    beats = iter(range(1, 1000))

    def live() -> None:
        if clock.passed_s % 10 == 0:
            paths = SweepPaths(tmp_path).run(RUN.path)
            beat(paths, written, now=time.time() - age_s + next(beats))
            set_age(tmp_path, written, age_s)

    clock = Clock(beats=live)
    watch = ClaimWatch(tmp_path, clock)
    assert watch.watch([RUN]) == {RUN.run_id: Activity.RUNNING}
    assert clock.passed_s == 10
    clock.beats = None
    clock.passed_s += 61
    assert watch.look(RUN) is Activity.IDLE


def test_a_silent_owner_is_watched_for_as_long_as_its_claim_says(tmp_path):
    claim(tmp_path, ELSEWHERE)
    clock = Clock()
    assert ClaimWatch(tmp_path, clock).watch([RUN]) == {RUN.run_id: Activity.IDLE}
    assert 60 <= clock.passed_s < 61


def test_nothing_is_waited_for_where_a_claim_may_be_silent_for_long(tmp_path):
    written = claim(tmp_path, ELSEWHERE, expiry_s=LONGEST_WATCH_S + 1)
    clock = Clock()
    watch = ClaimWatch(tmp_path, clock)
    assert watch.watch([RUN]) == {RUN.run_id: Activity.UNKNOWN}
    assert clock.passed_s == 0
    path = SweepPaths(tmp_path).run(RUN.path).claim(written.number)
    assert f"remove {path} if that host is gone" in watch.reason(RUN, Activity.UNKNOWN)


def test_a_run_of_a_living_process_here_is_running_until_it_is_released(tmp_path):
    written = claim(tmp_path, this_owner())
    watch = ClaimWatch(tmp_path)
    assert watch.look(RUN) is Activity.RUNNING
    release(SweepPaths(tmp_path).run(RUN.path), written)
    assert watch.look(RUN) is Activity.IDLE


def test_a_run_that_was_never_claimed_is_not_running(tmp_path):
    assert ClaimWatch(tmp_path).look(RUN) is Activity.IDLE


def test_nothing_is_written_to_learn_who_runs(tmp_path, monkeypatch):
    claim(tmp_path, ELSEWHERE)

    def refuse(*_: object) -> None:
        raise AssertionError("a file is written")

    monkeypatch.setattr(SystemDisk, "create", refuse)
    ClaimWatch(tmp_path, Clock()).watch([RUN])


@pytest.mark.parametrize("is_live", [True, False])
def test_a_pull_leaves_the_checkpoint_of_a_live_run_alone(tmp_path, is_live):
    sweep = make_grid()
    output = write_output(tmp_path / "here", sweep, [])
    last = SweepPaths(output).run(RUN.path).last_checkpoint
    last.parent.mkdir(parents=True)
    last.write_bytes(b"epoch 9")
    written = claim(output, ELSEWHERE)
    set_age(output, written, 300)
    name = last.relative_to(output).as_posix()
    bucket = MemoryBucket()
    bucket.objects = {"sweep.json": b"{}", name: b"epoch 5"}
    beats = iter(range(1, 1000))

    def live() -> None:
        beat(SweepPaths(output).run(RUN.path), written, now=-300.0 + next(beats))
        set_age(output, written, 300)

    pull = replace(
        Pull.between(output, bucket),
        claims=ClaimWatch(output, Clock(beats=live if is_live else None)),
    )
    # The object is the newer one by all that the cache knows.
    pull.cache.record_synced(name, sha256_hex(b"epoch 9"))
    pull.pull_all(sweep)
    assert last.read_bytes() == (b"epoch 9" if is_live else b"epoch 5")
    kept = [issue.reason for issue in pull.report.kept]
    assert kept == (["a live process trains this run in this folder: pull it later"] * is_live)
    assert name in list_objects(bucket, pull.cache)
