"""Fetching a place in a bucket into a folder: proven, resumable, and never over a result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from merge.errors import RecordError, StorageError
from merge.records.records import read_result
from merge.records.sweep import Run, Sweep, read_sweep
from merge.storage.atomic import move_into_place, storage_errors, write_atomic, write_exclusive
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.runs.claims import is_live, last_claim
from orchestrator.s3.bucket import Bucket, Head, Stored
from orchestrator.s3.download import PIECE_SIZE, damaged, fetch
from orchestrator.s3.upload import snapshot
from orchestrator.sync.cache import Known, Memory, sha256_hex
from orchestrator.sync.decide import Decision, decide
from orchestrator.sync.files import RunNames, Selection, in_order, owner_of, runs_by_path, travels
from orchestrator.sync.plan import plan_needed_in, refuse_difference
from orchestrator.sync.report import Remark, SyncReport

Listing = Mapping[str, Stored]

_WHY = {
    Decision.OTHER_IS_NEWER: "this file is newer than the object: `replicate sync push` sends it",
    Decision.CONFLICT: "file and object differ, and who changed which is not known: move the file "
    "away to fetch the object",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """The way from one place in a bucket to one output folder."""

    output: Path
    bucket: Bucket
    memory: Memory
    selection: Selection
    report: SyncReport
    is_dry: bool = False

    def everything(self, sweep: Sweep) -> None:
        """Fetch all runs; damaged objects are reported, and their run's result is left out."""
        by_run = names_by_run(sweep, {stored.name: stored for stored in self.bucket.list()})
        with _alone(self.memory), ThreadPoolExecutor(self.bucket.target.max_concurrency) as pool:
            try:
                for _ in pool.map(lambda run: self.run(run, by_run[run.run_id]), sweep.runs):
                    self.memory.save(now=False)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                self.memory.save()

    def run(self, run: Run, listing: Listing) -> None:
        """Fetch one run: checkpoints first, its result last."""
        wanted = [name for name in listing if self.selection.takes(name, run)]
        try:
            if wanted and not self._is_barred(run, listing):
                self._fetch_all(run, wanted, listing)
        except RecordError as error:
            self.report.problems.append(Remark(run.path, str(error)))

    def _is_barred(self, run: Run, listing: Listing) -> bool:
        """Whether this run's files must stay as they are here."""
        if is_running(self.output, run):
            self.report.kept.append(Remark(run.path, "a living process has this run here"))
            return True
        result = RunNames(run).result
        here = self._local_sha256(result)
        if here is None or result not in listing:
            return False
        if here == self.memory.remote_sha256(listing[result]):
            return False
        data, _ = self._proven(listing[result])
        self._put_aside(run, data)
        return True

    def _fetch_all(self, run: Run, wanted: list[str], listing: Listing) -> None:
        result = RunNames(run).result
        is_owner = result in listing and self._local_sha256(result) is None
        for name in in_order(wanted, run):
            self._file(listing[name], is_result=name == result, is_owner=is_owner)

    def _file(self, stored: Stored, *, is_result: bool, is_owner: bool) -> None:
        here = self._local_sha256(stored.name)
        if here is not None and not self._may_replace(stored, here, is_owner=is_owner):
            return
        if self.is_dry:
            self.report.was_moved(stored.name, stored.size)
            return
        path = self.output / stored.name
        if stored.size > PIECE_SIZE:
            sha256 = self._fetch_large(stored, path)
        else:
            data, sha256 = self._proven(stored)
            if not is_result:
                write_atomic(path, lambda file: file.write(data))
            elif not write_exclusive(path, lambda file: file.write(data)):
                raise RecordError(f"{path} appeared meanwhile: give the same command again")
        self.memory.saw(stored.name, Known(size=stored.size, etag=stored.etag, sha256=sha256))
        self.memory.agree(stored.name, sha256)
        self.report.was_moved(stored.name, stored.size)

    def _may_replace(self, stored: Stored, here: str, *, is_owner: bool) -> bool:
        there = self.memory.remote_sha256(stored) or ""
        decision = decide(there, here, self.memory.agreed(stored.name), is_owner=is_owner)
        if decision is Decision.SAME:
            self.memory.agree(stored.name, here)
            self.report.is_same(stored.name)
        elif decision is not Decision.MOVE:
            self.report.kept.append(Remark(stored.name, _WHY[decision]))
        return decision is Decision.MOVE

    def _proven(self, stored: Stored) -> tuple[bytes, str]:
        """A small object's bytes and their SHA-256. RecordError unless they are as stored."""
        answer = self.bucket.get(stored.name)
        if answer is None:
            raise RecordError(f"{self.bucket.target.url}/{stored.name} was removed meanwhile")
        data, head = answer
        self.bucket.bandwidth.take(len(data))
        expected, found = expected_sha256(self.bucket, stored.name, head), sha256_hex(data)
        if found != expected:
            raise RecordError(damaged(self.bucket, stored.name, expected, found))
        return data, found

    def _fetch_large(self, stored: Stored, path: Path) -> str:
        head = self.bucket.head(stored.name)
        if head is None:
            raise RecordError(f"{self.bucket.target.url}/{stored.name} was removed meanwhile")
        expected = expected_sha256(self.bucket, stored.name, head)
        part = self.memory.paths.download(sha256_hex(f"{stored.name} {stored.etag}".encode())[:32])
        sha256 = fetch(self.bucket, stored, part, expected)
        move_into_place(part, path)
        return sha256

    def _put_aside(self, run: Run, data: bytes) -> None:
        paths = SweepPaths(self.output).run(run.path)
        scratch = self.memory.paths.download(sha256_hex(data)[:32])
        write_atomic(scratch, lambda file: file.write(data))
        path = paths.result_aside(read_result(scratch).token)
        scratch.unlink()
        if not self.is_dry:
            write_exclusive(path, lambda file: file.write(data))
        reason = f"another result of {run.run_id} is here: the bucket's is kept as {path.name}"
        self.report.aside.append(Remark(RunNames(run).result, reason))

    def _local_sha256(self, name: str) -> str | None:
        try:
            with snapshot(self.output / name) as source:
                return self.memory.local_sha256(name, source)
        except FileNotFoundError:
            return None


def prepare(pull: Pull) -> Sweep:
    """The bucket's plan, which the output folder has too now (in a dry run: would have).

    IncompleteError where the bucket has none, ConfigChangedError where the folder has another.
    """
    there = plan_needed_in(pull.bucket, pull.memory.view)
    path = SweepPaths(pull.output).sweep
    data = pull.memory.view.sweep.read_bytes()
    if not path.exists():
        if not pull.is_dry:
            write_exclusive(path, lambda file: file.write(data))
        return there
    refuse_difference(pull.bucket, there, read_sweep(path))
    return there


def names_by_run(sweep: Sweep, listing: Listing) -> dict[str, dict[str, Stored]]:
    """The objects of each run, by its id; what belongs to none is left out."""
    by_path = runs_by_path(sweep)
    found: dict[str, dict[str, Stored]] = {run.run_id: {} for run in sweep.runs}
    for name, stored in listing.items():
        run = owner_of(name, by_path)
        if run and travels(name):
            found[run.run_id][name] = stored
    return found


def is_running(output: Path, run: Run) -> bool:
    """Whether a living process has `run` in this folder. RecordError where its claim is damaged."""
    claim = last_claim(SweepPaths(output).run(run.path))
    if claim is None:
        return False
    alive = owner_alive(claim.owner, this_owner())
    return is_live(claim, alive, silence_s=time.time() - claim.heartbeat)


def expected_sha256(bucket: Bucket, name: str, head: Head) -> str:
    """The SHA-256 stored with an object. RecordError where its writer stored none."""
    if head.sha256 is None:
        raise RecordError(
            f"{bucket.target.url}/{name} has no SHA-256 stored with it: it was not written by "
            f"papergrid, or its store dropped it; push it again from the machine that made it"
        )
    return head.sha256


@contextmanager
def _alone(memory: Memory) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = memory.paths.pull_lock
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"another pull into {path.parent.parent} is under way: wait for its end"
            ) from error
    try:
        yield
    finally:
        lock.release()
