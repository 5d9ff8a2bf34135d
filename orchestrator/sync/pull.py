"""Fetching a place in a bucket into a folder: checked, resumable, and never over a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from merge.errors import RecordError, StorageError
from merge.records.result import read_result
from merge.records.sweep import Run, Sweep, read_sweep
from merge.storage.atomic import (
    make_folder,
    move_into_place,
    remove_file,
    storage_errors,
    write_atomic,
    write_exclusive,
)
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.checksums import refuse_mismatch, removed_meanwhile, sha256_hex
from orchestrator.s3.download import RANGE_SIZE, download_file
from orchestrator.s3.objects import ListedObject, ObjectHead
from orchestrator.sync.cache import KnownObject, SyncCache
from orchestrator.sync.decide import Decision
from orchestrator.sync.listing import Listing
from orchestrator.sync.local_files import link_problem
from orchestrator.sync.plan import refuse_different_plan, require_plan
from orchestrator.sync.report import SyncIssue
from orchestrator.sync.running import Activity
from orchestrator.sync.selection import (
    RunNames,
    is_synced,
    run_of_name,
    runs_by_path,
    transfer_order,
)
from orchestrator.sync.transfer import Transfer

_REASONS = {
    Decision.DESTINATION_IS_NEWER: "this file is newer than the object: `replicate sync push` "
    "sends it",
    Decision.CONFLICT: "file and object differ, and it is not known which is newer: move the file "
    "away to fetch the object",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull(Transfer):
    """From one place in a bucket to one output folder."""

    def pull_all(self, sweep: Sweep) -> None:
        """Fetch all runs; a damaged object is reported, and the result of its run is left out.

        Runs that other hosts have claimed come last, all watched at the same time.
        """
        by_run = objects_by_run(sweep, self.list_objects())
        with _only_pull(self.cache):
            later: list[Run] = []
            self.for_each_run(
                sweep.runs, lambda run: self._pull_or_defer(run, by_run[run.run_id], later)
            )
            # Here, in one thread: each of them would wait for its own turn.
            self._watch(later)
            self.for_each_run(later, lambda run: self.pull_run(run, by_run[run.run_id]))

    def pull_run(self, run: Run, listing: Listing) -> None:
        """Fetch one run: checkpoints first, its result last. Damaged objects are reported.

        Waits where another host may be training it in this folder.
        """
        with self._reporting(run):
            self._pull(run, self._to_pull(run, listing), listing)

    def _pull_or_defer(self, run: Run, listing: Listing, later: list[Run]) -> None:
        with self._reporting(run):
            selected = self._to_pull(run, listing)
            if selected and self.claims.look(run) is Activity.UNKNOWN:
                later.append(run)
            else:
                self._pull(run, selected, listing)

    def _pull(self, run: Run, selected: list[str], listing: Listing) -> None:
        if selected and self._may_pull(run, listing):
            self._pull_files(run, selected, listing)

    def _watch(self, runs: Sequence[Run]) -> None:
        """Learn which runs are running; a claim that is damaged meanwhile is reported later."""
        with suppress(RecordError):
            self.claims.watch(runs)

    def _to_pull(self, run: Run, listing: Listing) -> list[str]:
        """The selected objects of a run, unless every file here is equal already."""
        selected = [name for name in listing if self.selection.includes(name, run)]
        equal: dict[str, str] = {}
        for name in selected:
            local = self.local_sha256(name)
            if local is None or local != self.cache.remote_sha256(listing[name], local):
                return selected
            equal[name] = local
        for name, sha256 in equal.items():
            self.cache.record_synced(name, sha256)
            self.report.add_unchanged(name)
        return []

    @contextmanager
    def _reporting(self, run: Run) -> Iterator[None]:
        try:
            yield
        except RecordError as error:
            self.report.problems.append(SyncIssue(run.path, str(error)))

    def _may_pull(self, run: Run, listing: Listing) -> bool:
        """Whether files of this run may change here; reports it where they may not."""
        activity = self.claims.watch([run])[run.run_id]
        if activity is not Activity.IDLE:
            self.keep(run.path, self.claims.reason(run, activity))
            return False
        result = RunNames(run).result
        local = self.local_sha256(result)
        if local is None or result not in listing:
            return True
        if local == self.cache.remote_sha256(listing[result], local):
            return True
        data, sha256 = self._get_checked(listing[result])
        if sha256 == local:
            return True
        self._put_aside(run, data)
        return False

    def _pull_files(self, run: Run, selected: list[str], listing: Listing) -> None:
        result = RunNames(run).result
        is_owner = result in listing and self.local_sha256(result) is None
        for name in transfer_order(selected, run):
            if problem := link_problem(self.output, run, name):
                raise RecordError(problem, path=self.output / name)
            self._pull_file(listing[name], is_result=name == result, is_owner=is_owner)

    def _pull_file(self, listed: ListedObject, *, is_result: bool, is_owner: bool) -> None:
        local = self.local_sha256(listed.name)
        if local is not None and not self._may_replace(listed, local, is_owner=is_owner):
            return
        if not self.is_dry:
            sha256 = self._download(listed, is_result=is_result)
            known = KnownObject(size=listed.size, etag=listed.etag, sha256=sha256)
            self.cache.record_remote(listed.name, known)
            self.cache.record_synced(listed.name, sha256)
        self.report.add_transferred(listed.name, listed.size)

    def _may_replace(self, listed: ListedObject, local: str, *, is_owner: bool) -> bool:
        remote = self.cache.remote_sha256(listed, local) or ""
        return self.may_overwrite(listed.name, remote, local, is_owner=is_owner, reasons=_REASONS)

    def _download(self, listed: ListedObject, *, is_result: bool) -> str:
        """Bring an object to its place in the output folder and return its SHA-256."""
        path = self.output / listed.name
        if listed.size > RANGE_SIZE:
            return self._download_large(listed, path)
        data, sha256 = self._get_checked(listed)
        if not is_result:
            write_atomic(path, lambda file: file.write(data))
        elif not write_exclusive(path, lambda file: file.write(data)):
            raise RecordError(f"{path} was written meanwhile: run the same command again")
        return sha256

    def _get_checked(self, listed: ListedObject) -> tuple[bytes, str]:
        """A small object's content and its SHA-256. RecordError where the two do not fit."""
        answer = self.bucket.get(listed.name)
        if answer is None:
            raise removed_meanwhile(self.bucket.url(listed.name))
        data, head = answer
        self.bucket.bandwidth.acquire(len(data))
        expected, found = required_sha256(self.bucket, listed.name, head), sha256_hex(data)
        refuse_mismatch(self.bucket.url(listed.name), expected, found)
        return data, found

    def _download_large(self, listed: ListedObject, path: Path) -> str:
        head = self.bucket.head(listed.name)
        if head is None:
            raise removed_meanwhile(self.bucket.url(listed.name))
        expected = required_sha256(self.bucket, listed.name, head)
        # With the ETag in its name, a partial file is resumed only from the same version.
        version = f"{listed.name} {listed.etag}".encode()
        part = self.cache.paths.download(sha256_hex(version)[:32])
        sha256 = download_file(self.bucket, listed, part, expected)
        move_into_place(part, path)
        return sha256

    def _put_aside(self, run: Run, data: bytes) -> None:
        paths = SweepPaths(self.output).run(run.path)
        scratch = self.cache.paths.download(sha256_hex(data)[:32])
        write_atomic(scratch, lambda file: file.write(data))
        path = paths.result_aside(read_result(scratch).token)
        remove_file(scratch)
        if not self.is_dry:
            write_exclusive(path, lambda file: file.write(data))
        reason = (
            f"this folder has another result of {run.run_id}: the bucket's is kept as {path.name}"
        )
        self.report.aside.append(SyncIssue(RunNames(run).result, reason))


def prepare_pull(pull: Pull) -> Sweep:
    """Have the bucket's plan in the output folder too, and return it; a dry run writes nothing.

    IncompleteError where the bucket has no plan, ConfigChangedError where the folder has another.
    """
    remote = require_plan(pull.bucket, pull.cache.mirror)
    path = SweepPaths(pull.output).sweep
    data = pull.cache.mirror.sweep.read_bytes()
    if not path.exists():
        if not pull.is_dry:
            write_exclusive(path, lambda file: file.write(data))
        return remote
    refuse_different_plan(pull.bucket, remote, read_sweep(path))
    return remote


def objects_by_run(sweep: Sweep, listing: Listing) -> dict[str, dict[str, ListedObject]]:
    """The objects of each run, by its id; objects that belong to no run are left out."""
    by_path = runs_by_path(sweep)
    found: dict[str, dict[str, ListedObject]] = {run.run_id: {} for run in sweep.runs}
    for name, listed in listing.items():
        run = run_of_name(name, by_path)
        if run and is_synced(name):
            found[run.run_id][name] = listed
    return found


def required_sha256(bucket: Bucket, name: str, head: ObjectHead) -> str:
    """The SHA-256 that its writer stored with an object. RecordError where there is none."""
    if head.sha256 is None:
        raise RecordError(
            f"{bucket.url(name)} has no SHA-256 in its metadata: papergrid did not write it, or "
            f"the store dropped the metadata; push it again from the machine that has the file"
        )
    return head.sha256


@contextmanager
def _only_pull(cache: SyncCache) -> Iterator[None]:
    """StorageError where another process pulls into the same folder: both would write its parts."""
    from filelock import FileLock, Timeout

    path = cache.paths.pull_lock
    make_folder(path.parent)
    with storage_errors(path):
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"another pull into {path.parent.parent} is in progress: wait until it ends"
            ) from error
    try:
        yield
    finally:
        lock.release()
