"""Claims of hosts that share a bucket and no folder.

A run is claimed in the bucket first, then in the output folder. The files that an earlier owner
sent are fetched, so that the run resumes from its checkpoint. The claim in the bucket is given back
once the run's files are there (until then no other host can see its result), at the latest when the
command ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from merge.errors import BucketUnavailableError, PapergridError, StorageError
from merge.records.records import EXPIRY_S, AttemptRecord, Claim, Outcome, Owner
from merge.records.sweep import Run, Sweep
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.paths import RunPaths
from orchestrator.bucket_claims.held_runs import HeldRun, HeldRuns
from orchestrator.bucket_claims.remote_claims import HasResult, RemoteClaims
from orchestrator.bucket_claims.states import attempts_in, sent_attempts
from orchestrator.machine.repeating_thread import RepeatingThread
from orchestrator.runs.claim_places import FolderClaims, is_older
from orchestrator.runs.claims import Busy, Finished, Taken
from orchestrator.runs.heartbeat_watch import HeartbeatWatch
from orchestrator.runs.requests import first_counted
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.conditional_writes import require_exclusive_claims
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.pull import Pull, objects_by_run
from orchestrator.sync.selection import RunNames, runs_by_path

_HEARTBEATS_PER_CHECKPOINT = 3
_LAST_RELEASES_S = 5.0
"""At the end, how long the releases of runs that were not sent may take."""

_log = logging.getLogger(__name__)

_TakeLocal = Callable[[float], Taken | Busy | Finished]
"""Claims the run in the output folder, at a Unix time."""


class FolderAndBucketClaims:
    """Claims in a bucket and in the output folder; a thread sends the heartbeats to the bucket.

    Implements `runs.claim_places.Claims`. BucketError where the store ignores conditional writes.
    """

    def __init__(
        self,
        output: Path,
        target: BucketTarget,
        sweep: Sweep,
        heartbeat_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._output = output.resolve()
        self._sweep = sweep
        self._by_path = runs_by_path(sweep)
        self._bucket = Bucket(target)
        require_exclusive_claims(self._bucket)
        self._remote = RemoteClaims(self._bucket, clock)
        self._local = FolderClaims()
        self._held = HeldRuns(self._remote, clock)
        self.checkpoints_every_s = _HEARTBEATS_PER_CHECKPOINT * heartbeat_s
        """How often the files of running runs are sent, so that other hosts can resume them."""
        self.on_run_ended: Callable[[Run], object] = lambda _: None
        """Called with each run whose attempt has ended: its files are to be sent."""
        self._heartbeat = RepeatingThread("bucket claims", heartbeat_s, self._held.beat_all)
        self._heartbeat.start()

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

        def take_local(now: float) -> Taken | Busy | Finished:
            return self._local.take(
                paths, config_hash, owner, now=now, expiry_s=expiry_s, watch=watch
            )

        run = self._run_of(paths)
        if held := self._held.get(run):
            # Under the lock `release_sent` cannot give the run back in between.
            with held.write_lock:
                if self._held.get(run) is held:
                    # Its attempt has ended and its files are not sent yet: the run is still ours.
                    return self._take_again(held, take_local)
        return self._take_remote(run, paths, owner, now, expiry_s, take_local)

    def holds(self, paths: RunPaths, claim: Claim) -> bool:
        """Whether the run is ours in the folder and, by the last heartbeat, in the bucket."""
        held = self._held.get(self._run_of(paths))
        if held is None or held.local_token != claim.token or held.is_lost:
            return False
        return self._local.holds(paths, claim)

    def may_commit(self, paths: RunPaths, claim: Claim) -> bool:
        """As `holds`, but the bucket is asked; where it fails to answer, its last answer counts.

        That it refuses to (access that was revoked, a damaged claim) must not fail a finished run.

        Even then no result is lost: the result's object is created once.
        """
        held = self._held.get(self._run_of(paths))
        if held is not None and not held.is_lost:
            try:
                held.is_lost = not self._remote.holds(held.run.path, held.remote_claim)
            except PapergridError as error:
                _log.warning(
                    "unknown whether %s is still ours in the bucket, its last answer counts: %s",
                    held.run.run_id,
                    error,
                )
        return self.holds(paths, claim)

    def beat(self, paths: RunPaths, claim: Claim, *, now: float) -> Claim:
        """A heartbeat in the folder; those in the bucket have a thread of their own.

        A slow store must not delay the heartbeats on disk.
        """
        return self._local.beat(paths, claim, now=now)

    def release(self, paths: RunPaths, claim: Claim) -> None:
        """Give the run back in the folder now, and in the bucket when its files are there."""
        self._local.release(paths, claim)
        run = self._run_of(paths)
        self._held.end(run)
        self.on_run_ended(run)

    def failed_before(self, paths: RunPaths, command_age_s: float) -> frozenset[str]:
        """As `Claims.failed_before`, of the attempts whose records were sent.

        One listing answers for all runs that were never claimed or are finished.
        """
        run = self._run_of(paths)
        with _refusing_to_start(run):
            names = self._names_at_first.get(run.path, set())
            if not names or RunNames(run).result in names:
                return frozenset()
            sent = sent_attempts(self._bucket, run)
            failed = [each for each in sent if each.record.outcome is Outcome.FAILED]
            now = self._remote.store_now() if failed else None
        return frozenset(
            each.record.token
            for each in failed
            if now is None or is_older((now - each.modified).total_seconds(), command_age_s)
        )

    def last(self, paths: RunPaths) -> Claim | None:
        """The claim in the bucket that has the run, or had it last."""
        run = self._run_of(paths)
        with _refusing_to_start(run):
            last = self._remote.last(run.path)
        return last.claim if last else None

    def history(self, paths: RunPaths) -> Sequence[AttemptRecord]:
        """The attempts of all hosts that count, as their records were sent.

        A claim is given back only once the record of its attempt was sent.
        """
        run = self._run_of(paths)
        with _refusing_to_start(run):
            sent = attempts_in(self._bucket, run)
        first = first_counted(paths)
        return [record for record in sent if record.number >= first]

    @cached_property
    def _names_at_first(self) -> Mapping[str, set[str]]:
        """The objects directly in each folder, as they were when first asked for."""
        found: dict[str, set[str]] = {}
        for listed in self._bucket.list():
            found.setdefault(listed.name.rpartition("/")[0], set()).add(listed.name)
        return found

    def ended_token(self, run: Run) -> str | None:
        """The token of the attempt at `run` that has ended and left all its files; else None."""
        return self._held.ended_token(run)

    def release_sent(self, run: Run, ended_token: str | None) -> None:
        """Give the run back in the bucket, where all files of its attempt `ended_token` are.

        A no-op where a new attempt was started since: it will leave more files.
        """
        held = self._held.get(run)
        if held is None:
            return
        with held.write_lock:
            if held.is_running or held.local_token != ended_token:
                return
            if not held.is_lost:
                self._remote.release(run.path, held.remote_claim)
            self._held.remove(held)

    def running(self) -> Sequence[Run]:
        """The runs whose attempts are running here."""
        return self._held.running()

    def close(self) -> None:
        """End the heartbeats, and give back the runs that are not running, as far as this is quick.

        Else their claims expire for other hosts, but never for this process: it is alive.
        """
        self._heartbeat.stop()
        self._held.give_back_idle(_LAST_RELEASES_S)

    def _take_remote(
        self,
        run: Run,
        paths: RunPaths,
        owner: Owner,
        now: float,
        expiry_s: float,
        take_local: _TakeLocal,
    ) -> Taken | Busy | Finished:
        with _refusing_to_start(run):
            taking = self._remote.take(run.path, owner, now=now, expiry_s=expiry_s)
            if isinstance(taking, Busy):
                return taking
            if isinstance(taking, HasResult):
                self._fetch(run)
                return self._expect_result(run, paths, take_local(now))
            # Before the files are fetched: that may last, and the claim needs its heartbeats.
            held = HeldRun(run=run, remote_claim=taking.claim)
            self._held.add(held)
            try:
                return self._start(held, lambda: take_local(now))
            except BaseException:
                with suppress(PapergridError):
                    self._held.give_back(held)
                raise

    def _start(
        self, held: HeldRun, take_local: Callable[[], Taken | Busy | Finished]
    ) -> Taken | Busy | Finished:
        """Fetch the run's files and claim it in the folder too, else give it back."""
        # Before the claim in the folder: a pull changes no run that a live process has there.
        self._fetch(held.run)
        local = take_local()
        if isinstance(local, Taken):
            self._held.start(held, local.claim.token)
        else:
            self._held.give_back(held)
        return local

    def _take_again(self, held: HeldRun, take_local: _TakeLocal) -> Taken | Busy | Finished:
        if held.is_lost or not held.local_token:
            return Busy(held.remote_claim)
        # Not the caller's time: a heartbeat may have kept the lock for minutes of retries.
        local = take_local(self._clock.now())
        if isinstance(local, Taken):
            self._held.start(held, local.claim.token)
        return local

    def _expect_result(
        self, run: Run, paths: RunPaths, local: Taken | Busy | Finished
    ) -> Busy | Finished:
        """`local`, where the bucket has the run's result; StorageError where it is not here."""
        if isinstance(local, Taken):
            self._local.release(paths, local.claim)
            raise StorageError(
                f"the result of {run.run_id} could not be fetched from {self._bucket.target.url}: "
                f"run the same command again"
            )
        return local

    def _fetch(self, run: Run) -> None:
        """Bring the files that other hosts sent of `run` into the folder.

        A damaged object is left out: the run then starts from an older checkpoint, or anew.
        """
        pull = Pull.between(self._output, self._bucket)
        listing = pull.list_objects(RunNames(run).folder)
        pull.pull_run(run, objects_by_run(self._sweep, listing)[run.run_id])
        pull.cache.save()
        for issue in pull.report.problems:
            _log.warning("not fetched: %s", issue.reason)

    def _run_of(self, paths: RunPaths) -> Run:
        return self._by_path[paths.root.relative_to(self._output).as_posix()]


@contextmanager
def _refusing_to_start(run: Run) -> Iterator[None]:
    """StorageError, so that `run` is not started now, where the bucket does not answer."""
    try:
        yield
    except BucketUnavailableError as error:
        raise StorageError(f"{run.run_id} cannot be claimed: {error}") from error
