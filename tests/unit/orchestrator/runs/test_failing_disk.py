"""A claim and a commit on a file system that fails at any one operation, or from any one on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.failing_disk import FailingDisk, Fault, every_fault
from support.simulated_disk import FileServer, SimulatedDisk, World

from merge.errors import PapergridError, StorageError, SystemLimitError
from merge.records.records import Claim
from merge.records.result import Result, read_result
from merge.storage import passing_failures
from merge.storage.paths import RunPaths
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claim_places import FolderClaims
from orchestrator.runs.claims import Busy, Finished, Taken, release, take
from orchestrator.runs.commit import Aside, commit_result
from orchestrator.runs.heartbeat import Heartbeat

HASH = "0123456789abcdef"
RUN = Path("/out/run")


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """The waits between repetitions are real ones."""
    monkeypatch.setattr(passing_failures.repeated, "__defaults__", ((0, 0, 0), lambda _: None))


class Folder:
    """A run's folder, seen by a disk in order and by one with a fault."""

    def __init__(self, fault: Fault) -> None:
        self.server = FileServer(World())
        self.fault = fault
        disk = SimulatedDisk(self.server)
        self.paths = RunPaths(RUN, disk)
        self.failing = RunPaths(RUN, FailingDisk(disk, fault))

    def names(self) -> list[str]:
        """Of all files that are no temporary ones."""
        return [path.name for path in self.server.files if not path.name.endswith(".tmp")]


def tried(prepare: Callable[[Folder], Callable[[], object]]) -> Iterator[tuple[Folder, object]]:
    """For each fault that strikes: the folder, and what was returned or raised."""
    for fault_at in every_fault():
        at = 0
        while True:
            folder = Folder(fault_at(at))
            act = prepare(folder)
            try:
                outcome = act()
            except (PapergridError, OSError) as error:
                outcome = error
            if not folder.fault.has_struck:
                break
            at += 1
            yield folder, outcome
        assert at > 3


def take_now(paths: RunPaths) -> Taken | Busy | Finished:
    return take(paths, HASH, this_owner(), now=1.0)


def result_of(claim: Claim, score: float) -> Result:
    return Result(
        run_id="r",
        config_hash=HASH,
        axes={},
        metrics={"score": score},
        attempt=claim.number,
        token=claim.token,
        started=1.0,
        finished=2.0,
    )


def test_a_claim_is_had_or_the_next_try_has_it():
    """A claim that a failed try has left must not keep the run from the same process."""
    num_failed = 0
    for folder, outcome in tried(lambda folder: lambda: take_now(folder.failing)):
        if isinstance(outcome, Taken):
            assert isinstance(take_now(folder.paths), Busy), folder.fault
            continue
        num_failed += 1
        assert isinstance(outcome, StorageError), folder.fault
        second = take_now(folder.paths)
        assert isinstance(second, Taken), (folder.fault, outcome)
        assert isinstance(take_now(folder.paths), Busy)
    assert num_failed


def test_a_commit_neither_loses_nor_doubles_a_result():
    num_failed = 0

    def prepare(folder: Folder) -> Callable[[], object]:
        taken = take_now(folder.paths)
        assert isinstance(taken, Taken)
        folder.claim = taken.claim
        return lambda: commit_result(folder.failing, taken.claim, result_of(taken.claim, 0.5))

    for folder, outcome in tried(prepare):
        assert not isinstance(outcome, Aside), folder.fault
        is_there = "result.json" in folder.names()
        if outcome is None:
            assert is_there, folder.fault
        else:
            num_failed += 1
            assert isinstance(outcome, StorageError), (folder.fault, outcome)
        release(folder.paths, folder.claim)
        again = take_now(folder.paths)
        if is_there:
            assert isinstance(again, Finished)
        else:
            assert isinstance(again, Taken)
            assert commit_result(folder.paths, again.claim, result_of(again.claim, 0.75)) is None
        kept = read_result(folder.paths.result, folder.paths.disk)
        assert kept.metrics == {"score": 0.5 if is_there else 0.75}
        assert not [name for name in folder.names() if "aside" in name]
    assert num_failed


def test_a_claim_is_released_or_stays_the_owners():
    def prepare(folder: Folder) -> Callable[[], object]:
        taken = take_now(folder.paths)
        assert isinstance(taken, Taken)
        folder.claim = taken.claim
        return lambda: release(folder.failing, taken.claim)

    for folder, outcome in tried(prepare):
        if outcome is not None:
            assert isinstance(outcome, StorageError | OSError)
            release(folder.paths, folder.claim)
        assert isinstance(take_now(folder.paths), Taken), folder.fault


class FullDisk(FolderClaims):
    """Claims of a user whose quota is used up: others can write."""

    def beat(self, paths: RunPaths, claim: Claim, *, now: float) -> Claim:  # noqa: ARG002
        raise StorageError("the disk quota is used up", path=paths.claim(claim.number))


def test_a_claim_whose_heartbeats_fail_is_lost_to_the_one_who_takes_the_run(tmp_path, caplog):
    paths = RunPaths(tmp_path / "run")
    taken = take_now(paths)
    assert isinstance(taken, Taken)
    lost: list[str] = []
    cancelled: list[str] = []
    heartbeat = Heartbeat(60.0, lost.append, cancelled.append, FullDisk())
    heartbeat.hold(paths, taken.claim)
    heartbeat.beat_all()
    assert lost == []
    assert "a heartbeat failed; it is tried again: the disk quota is used up" in caplog.text
    assert "Traceback" not in caplog.text
    release(paths, taken.claim)
    assert isinstance(take_now(paths), Taken)
    heartbeat.beat_all()
    assert lost == [taken.claim.token]


def test_without_a_thread_no_heartbeat_is_promised(monkeypatch):
    heartbeat = Heartbeat(60.0, lambda _: None)

    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "_start_new_thread", refused)
    with pytest.raises(SystemLimitError, match="'heartbeat' cannot be started now"):
        heartbeat.__enter__()
