"""Runs shared through a bucket by hosts that share no folder.

A run is claimed in the bucket first, then in the folder. What an earlier owner sent is fetched, so
that the run goes on from its checkpoint. The bucket's claim is given back only once the run's files
are there: until then its result can be seen nowhere else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from merge.errors import BucketUnavailableError, StorageError
from merge.records.records import EXPIRY_S, AttemptRecord, Claim, Owner
from merge.records.sweep import Run, Sweep
from merge.storage.paths import RunPaths
from orchestrator.bucket_claims.records import BucketClaims, HasResult
from orchestrator.bucket_claims.states import attempts_in
from orchestrator.runs.claims import Busy, Finished, FolderClaims, Taken
from orchestrator.runs.heartbeat_watch import HeartbeatWatch
from orchestrator.runs.requests import first_counted
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.conditional_writes import refuse_claims_without_conditions
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.cache import Memory
from orchestrator.sync.files import RunNames, Selection
from orchestrator.sync.pull import Pull, names_by_run
from orchestrator.sync.report import SyncReport

_BEATS_PER_CHECKPOINT = 3

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Held:
    run: Run
    claim: Claim
    """In the bucket."""
    token: str
    """Of the claim in the folder."""
    is_going_on: bool = True
    """False once the attempt has ended: to be given back when all is sent."""
    is_lost: bool = False
    writing: threading.Lock = field(default_factory=threading.Lock)
    """Whoever writes the claim's object: a sign of life must not undo its release."""


class SharedClaims:
    """Claims in a bucket and in the output folder; a thread gives the signs of life in the bucket.

    Of the seam `claim_stores.Claims`.
    """

    def __init__(
        self, output: Path, target: BucketTarget, sweep: Sweep, heartbeat_s: float
    ) -> None:
        self._output = output.resolve()
        self._target = target
        self._sweep = sweep
        self._by_path = {run.path: run for run in sweep.runs}
        self._bucket = Bucket(target)
        refuse_claims_without_conditions(self._bucket)
        self._far = BucketClaims(self._bucket)
        self._near = FolderClaims()
        self._held: dict[str, _Held] = {}
        """By run id."""
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._heartbeat_s = heartbeat_s
        self.checkpoints_every_s = _BEATS_PER_CHECKPOINT * heartbeat_s
        """How often the files of going runs are sent, so that others can go on from them."""
        self.enlist: Callable[[Run], object] = lambda _: None
        """Told of each run whose attempt has ended: it is to be sent."""
        self._thread = threading.Thread(target=self._beat_all, name="bucket claims", daemon=True)
        self._thread.start()

    def take(
        self,
        paths: RunPaths,
        config_hash: str,
        owner: Owner,
        *,
        now: float,
        expiry_s: float = EXPIRY_S,
        watch: HeartbeatWatch | None = None,
    ) -> Taken | Busy | Finished:
        """As `claims.take`. StorageError where the bucket does not answer: nothing is started."""
        run = self._run_of(paths)
        if held := self._held.get(run.run_id):
            with held.writing:
                if self._held.get(run.run_id) is held:
                    # Its attempt has ended and is not sent yet: the run is still ours.
                    return self._take_again(held, paths, config_hash, owner, expiry_s, watch)
        with _or_nothing_starts(run):
            taking = self._far.take(run.path, owner, now=now, expiry_s=expiry_s)
            if isinstance(taking, Busy):
                return taking
            self._fetch(run)
        near = self._near.take(paths, config_hash, owner, now=now, expiry_s=expiry_s, watch=watch)
        if isinstance(taking, HasResult):
            if isinstance(near, Taken):
                self._near.release(paths, near.claim)
                raise StorageError(f"the result of {run.run_id} could not be fetched: try again")
            return near
        if isinstance(near, Taken):
            held = _Held(run=run, claim=taking.claim, token=near.claim.token)
            with self._lock:
                self._held[run.run_id] = held
        else:
            self._far.release(run.path, taking.claim)
        return near

    def holds(self, paths: RunPaths, claim: Claim) -> bool:
        """Whether the run is ours in the folder and, as far as the bucket answers, there."""
        held = self._held.get(self._run_of(paths).run_id)
        if held is None or held.token != claim.token or held.is_lost:
            return False
        return self._near.holds(paths, claim)

    def may_commit(self, paths: RunPaths, claim: Claim) -> bool:
        """As `holds`, with the bucket asked; where it does not answer, what was known last.

        The result's object is created once in any case.
        """
        held = self._held.get(self._run_of(paths).run_id)
        if held is not None and not held.is_lost:
            try:
                held.is_lost = not self._far.holds(held.run.path, held.claim)
            except BucketUnavailableError as error:
                _log.warning("not known whether %s is still ours: %s", held.run.run_id, error)
        return self.holds(paths, claim)

    def beat(self, paths: RunPaths, claim: Claim, *, now: float) -> Claim:
        """A sign of life in the folder; those in the bucket have a thread of their own."""
        return self._near.beat(paths, claim, now=now)

    def release(self, paths: RunPaths, claim: Claim) -> None:
        """Give the run back in the folder now, and in the bucket when its files are there."""
        self._near.release(paths, claim)
        run = self._run_of(paths)
        with self._lock:
            if held := self._held.get(run.run_id):
                held.is_going_on = False
        self.enlist(run)

    def num_ended(self, paths: RunPaths) -> int:
        """As in a folder; of a run that was never claimed, or is done, one listing tells."""
        run = self._run_of(paths)
        with _or_nothing_starts(run):
            names = self._names_at_first.get(run.path, set())
            has_ended = RunNames(run).result in names
            last = None if has_ended else self._far.last(run.path, names)
        return last.claim.number - (not last.claim.released) if last else 0

    def last(self, paths: RunPaths) -> Claim | None:
        """The claim in the bucket."""
        run = self._run_of(paths)
        with _or_nothing_starts(run):
            last = self._far.last(run.path)
        return last.claim if last else None

    def history(self, paths: RunPaths, last: Claim) -> Sequence[AttemptRecord]:
        """The attempts of all hosts, as they were sent; a claim's attempts are its owner's."""
        run = self._run_of(paths)
        with _or_nothing_starts(run):
            sent = attempts_in(self._bucket, run)
        counted = [record for record in sent if record.number >= first_counted(paths)]
        return counted if counted and counted[-1].owner == last.owner else ()

    @cached_property
    def _names_at_first(self) -> Mapping[str, set[str]]:
        """The objects directly in each folder, as they were when this was asked for first."""
        found: dict[str, set[str]] = {}
        for stored in self._bucket.list():
            found.setdefault(stored.name.rpartition("/")[0], set()).add(stored.name)
        return found

    def ended(self, run: Run) -> str | None:
        """The attempt at `run` that has ended and left all its files, by its token; else None."""
        with self._lock:
            held = self._held.get(run.run_id)
            return None if held is None or held.is_going_on else held.token

    def was_sent(self, run: Run, ended: str | None) -> None:
        """All files of `run` are in the bucket that there were when `ended` was asked.

        The run is given back, unless an attempt has gone on since: it left more.
        """
        held = self._held.get(run.run_id)
        if held is None:
            return
        with held.writing:
            if held.is_going_on or held.token != ended:
                return
            if not held.is_lost:
                self._far.release(run.path, held.claim)
            with self._lock:
                del self._held[run.run_id]

    def going_on(self) -> Sequence[Run]:
        """The runs whose attempts go on here."""
        with self._lock:
            return [h.run for h in self._held.values() if h.is_going_on and not h.is_lost]

    def close(self) -> None:
        """No more signs of life: what was not sent expires, and others may take it over."""
        self._end.set()
        self._thread.join()

    def _take_again(
        self,
        held: _Held,
        paths: RunPaths,
        config_hash: str,
        owner: Owner,
        expiry_s: float,
        watch: HeartbeatWatch | None,
    ) -> Taken | Busy | Finished:
        if held.is_lost:
            return Busy(held.claim)
        near = self._near.take(
            paths, config_hash, owner, now=time.time(), expiry_s=expiry_s, watch=watch
        )
        if isinstance(near, Taken):
            with self._lock:
                held.token, held.is_going_on = near.claim.token, True
        return near

    def _fetch(self, run: Run) -> None:
        """Bring what others left of `run` into the folder; damaged objects stay where they are."""
        memory = Memory(self._output, self._bucket)
        pull = Pull(
            output=self._output,
            bucket=self._bucket,
            memory=memory,
            selection=Selection(),
            report=SyncReport(),
        )
        listing = {s.name: s for s in self._bucket.list(RunNames(run).folder)}
        pull.run(run, names_by_run(self._sweep, listing)[run.run_id])
        memory.save()
        for remark in pull.report.problems:
            _log.warning("not fetched: %s", remark.reason)

    def _run_of(self, paths: RunPaths) -> Run:
        return self._by_path[paths.root.relative_to(self._output).as_posix()]

    def _beat_all(self) -> None:
        while not self._end.wait(self._heartbeat_s):
            for run_id in list(self._held):
                try:
                    self._beat(run_id)
                except Exception:  # noqa: BLE001
                    # A store that is away for a minute must not end the signs of life.
                    _log.exception("no sign of life could be sent; it is tried again")

    def _beat(self, run_id: str) -> None:
        held = self._held.get(run_id)
        if held is None or held.is_lost:
            return
        with held.writing:
            if self._held.get(run_id) is not held:
                return
            held.claim = self._far.beat(held.run.path, held.claim, now=time.time())
            held.is_lost = not self._far.holds(held.run.path, held.claim)
        if held.is_lost:
            _log.warning("the claim of %s in %s was lost", run_id, self._target.url)


@contextmanager
def _or_nothing_starts(run: Run) -> Iterator[None]:
    """StorageError, which ends `run` for now, where the bucket does not answer."""
    try:
        yield
    except BucketUnavailableError as error:
        raise StorageError(f"{run.run_id} cannot be claimed: {error}") from error
