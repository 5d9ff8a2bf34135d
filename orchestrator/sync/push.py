"""Sending an output folder to a bucket: only what changed, the result of each run last."""

from __future__ import annotations

from dataclasses import dataclass

from merge.errors import BucketUnavailableError, RecordError
from merge.records.result import read_result, result_from_json
from merge.records.sweep import Run, Sweep, read_sweep
from merge.results.collect import refuse_missing_sweep
from merge.storage.json_files import parse_json
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import ABSENT
from orchestrator.s3.checksums import refuse_mismatch, removed_meanwhile, sha256_hex
from orchestrator.s3.conditional_writes import supports_conditional_writes
from orchestrator.s3.objects import ListedObject
from orchestrator.s3.upload import Snapshot, Upload, snapshot
from orchestrator.sync.cache import KnownObject
from orchestrator.sync.decide import Decision
from orchestrator.sync.listing import Listing
from orchestrator.sync.local_files import local_files
from orchestrator.sync.plan import publish_plan, read_plan, refuse_different_plan
from orchestrator.sync.report import SyncIssue
from orchestrator.sync.selection import RunNames, transfer_order
from orchestrator.sync.transfer import Transfer

_MAX_ROUNDS = 6
"""More changes than this under one run in one push mean that two servers train the same run."""

_REASONS = {
    Decision.DESTINATION_IS_NEWER: "the object is newer than this file: `replicate sync pull` "
    "fetches it",
    Decision.CONFLICT: "another server has written this object too, and neither server has a "
    "result yet: the files of the server that finishes first are kept",
}


class _ChangedMeanwhileError(Exception):
    """Another server wrote the object first: list the bucket again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Transfer):
    """From one output folder to one place in a bucket."""

    def push_all(self, sweep: Sweep) -> None:
        """Send all runs; the first error of the store ends it, after the runs in progress."""
        # One listing for all runs: where nothing changed, a push makes no other request.
        listing = self.list_objects()
        self.for_each_run(sweep.runs, lambda run: self.push_run(run, listing))

    def push_run(self, run: Run, listing: Listing | None = None) -> None:
        """Send one run, its result last, until a new listing shows no difference.

        An unusable file is reported. BucketUnavailableError where the objects keep changing.
        """
        if listing is None:
            listing = self._list_run(run)
        for _ in range(_MAX_ROUNDS):
            try:
                if not self._push_once(run, listing):
                    return
            except _ChangedMeanwhileError:
                pass
            except RecordError as error:
                self.report.problems.append(SyncIssue(run.path, str(error)))
                return
            listing = self._list_run(run)
        raise BucketUnavailableError(
            f"{self.bucket.url(run.path)} keeps changing during the upload: make sure that no "
            f"other server trains {run.run_id}, then run the same command again"
        )

    def _list_run(self, run: Run) -> Listing:
        return self.list_objects(RunNames(run).folder)

    def _push_once(self, run: Run, listing: Listing) -> bool:
        """Send what differs; True where the result was sent, so that one more look is due.

        Another server may have sent its checkpoints between our listing and our result.
        """
        files = local_files(self.output, run)
        names = files.names
        for issue in files.left_out:
            if self.selection.includes(issue.name, run):
                self.keep(issue.name, f"not sent: {issue.reason}")
        selected = [name for name in names if self.selection.includes(name, run)]
        result = RunNames(run).result
        has_result = result in names
        if result in listing and selected and not self._has_same_result(run, listing, has_result):
            return False
        if result in selected and result not in listing:
            self._refuse_unusable(run)
        result_sent = False
        for name in transfer_order(selected, run):
            is_sent = self._push_file(name, listing.get(name), is_owner=has_result)
            result_sent = result_sent or (is_sent and name == result)
        return result_sent and not self.is_dry

    def _has_same_result(self, run: Run, listing: Listing, has_result: bool) -> bool:
        """Whether the bucket's result is ours too; reports it where it is not."""
        result = RunNames(run).result
        if not has_result:
            self.keep(run.path, "the bucket has a result of this run: pull it")
            return False
        local = self.local_sha256(result)
        if local == self.cache.remote_sha256(listing[result], local):
            return True
        # Not by its metadata alone: a finished result would be put aside for a damaged header.
        if self._is_same_content(result, local):
            return True
        self._put_aside(run)
        return False

    def _is_same_content(self, result: str, local: str | None) -> bool:
        """Whether the bucket's result holds what ours holds. RecordError where it is no result."""
        answer = self.bucket.get(result)
        if answer is None:
            raise removed_meanwhile(self.bucket.url(result))
        data, head = answer
        found, url = sha256_hex(data), self.bucket.url(result)
        if head.sha256 is not None:
            refuse_mismatch(url, head.sha256, found)
        result_from_json(url, parse_json(url, data))
        return found == local

    def _push_file(self, name: str, remote: ListedObject | None, *, is_owner: bool) -> bool:
        """Send one file unless it is there or must be kept; whether it was sent."""
        try:
            with snapshot(self.output / name) as source:
                sha256 = self.cache.local_sha256(name, source)
                if remote and not self._may_replace(name, sha256, remote, is_owner=is_owner):
                    return False
                if not self.is_dry:
                    self._upload(name, source, sha256, remote)
        except FileNotFoundError:
            # Its trainer is still running and has removed an old checkpoint.
            return False
        self.report.add_transferred(name, source.size)
        return True

    def _may_replace(self, name: str, sha256: str, remote: ListedObject, *, is_owner: bool) -> bool:
        return self.may_overwrite(
            name,
            sha256,
            self.cache.remote_sha256(remote, sha256),
            is_owner=is_owner,
            reasons=_REASONS,
        )

    def _upload(
        self, name: str, source: Snapshot, sha256: str, remote: ListedObject | None
    ) -> None:
        upload = Upload(
            bucket=self.bucket,
            name=name,
            source=source,
            sha256=sha256,
            only_if=self._condition(remote),
            state_paths=self.cache.paths,
        )
        etag = upload.send()
        if etag is None:
            raise _ChangedMeanwhileError
        self.cache.record_remote(name, KnownObject(size=source.size, etag=etag, sha256=sha256))
        self.cache.record_synced(name, sha256)

    def _condition(self, remote: ListedObject | None) -> str | None:
        """The object must still be as listed: else our decision was about another version."""
        if not supports_conditional_writes(self.bucket):
            return None
        return remote.etag if remote else ABSENT

    def _refuse_unusable(self, run: Run) -> None:
        """RecordError where the result here could never be counted: no push replaces a result."""
        path = SweepPaths(self.output).run(run.path).result
        found = read_result(path)
        if (found.run_id, found.config_hash) != (run.run_id, run.config_hash):
            raise RecordError(
                f"{path} belongs to another run or configuration: no file of {run.run_id} is sent; "
                f"move that file away to train the run again"
            )

    def _put_aside(self, run: Run) -> None:
        path = SweepPaths(self.output).run(run.path).result
        name = RunNames(run).aside(read_result(path).token)
        reason = f"the bucket has another result of {run.run_id}: this one is kept as {name}"
        if not self.is_dry:
            self.bucket.put(name, path.read_bytes(), only_if=ABSENT)
        self.report.aside.append(SyncIssue(RunNames(run).result, reason))


def prepare_push(push: Push) -> Sweep:
    """Have the output folder's plan in the bucket too; returns the bucket's.

    A dry run writes nothing. ConfigChangedError where the bucket holds another plan.
    """
    refuse_missing_sweep(push.output)
    path = SweepPaths(push.output).sweep
    sweep = read_sweep(path)
    if not push.is_dry:
        return publish_plan(push.bucket, push.cache.mirror, sweep, path.read_bytes())
    remote = read_plan(push.bucket, push.cache.mirror)
    if remote:
        refuse_different_plan(push.bucket, remote, sweep)
    return remote or sweep
