"""Sending an output folder to a bucket: only what changed, the result of each run last."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from merge.errors import BucketUnavailableError, RecordError
from merge.records.result import read_result
from merge.records.sweep import Run, Sweep, read_sweep
from merge.results.collect import refuse_missing_sweep
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import ABSENT, Bucket, Stored
from orchestrator.s3.conditional_writes import honours_conditions
from orchestrator.s3.upload import Upload, snapshot
from orchestrator.sync.cache import Known, Memory
from orchestrator.sync.decide import Decision, decide
from orchestrator.sync.files import RunNames, Selection, in_order, local_names
from orchestrator.sync.plan import agree_on_plan, plan_in, refuse_difference
from orchestrator.sync.report import Remark, SyncReport

Listing = Mapping[str, Stored]

_MOST_ROUNDS = 6
"""More changes than this under one run in one push mean that two servers fight over it."""

_WHY = {
    Decision.OTHER_IS_NEWER: "the object is newer than this file: `replicate sync pull` fetches it",
    Decision.CONFLICT: "another server has written this object too, and neither has a result: "
    "whoever finishes first settles it",
}


class _OvertakenError(Exception):
    """Somebody else wrote first: look again before going on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """The way from one output folder to one place in a bucket."""

    output: Path
    bucket: Bucket
    memory: Memory
    selection: Selection
    report: SyncReport
    is_dry: bool = False

    def everything(self, sweep: Sweep) -> None:
        """Send all runs; errors of the store end it, after what was under way."""
        listing = {stored.name: stored for stored in self.bucket.list()}
        with ThreadPoolExecutor(self.bucket.target.max_concurrency) as pool:
            try:
                for _ in pool.map(lambda run: self.run(run, listing), sweep.runs):
                    self.memory.save(now=False)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                self.memory.save()

    def run(self, run: Run, listing: Listing | None = None) -> None:
        """Send one run: checkpoints first, its result last, until the bucket shows just that."""
        if listing is None:
            listing = self._look(run)
        for _ in range(_MOST_ROUNDS):
            try:
                if not self._round(run, listing):
                    return
            except _OvertakenError:
                pass
            except RecordError as error:
                self.report.problems.append(Remark(run.path, str(error)))
                return
            listing = self._look(run)
        raise BucketUnavailableError(
            f"{self.bucket.target.url}/{run.path} keeps changing while it is sent: make sure that "
            f"no other server runs {run.run_id}, then give the same command again"
        )

    def _look(self, run: Run) -> Listing:
        return {stored.name: stored for stored in self.bucket.list(RunNames(run).folder)}

    def _round(self, run: Run, listing: Listing) -> bool:
        """Send what differs; True where a result was made visible: then look once more."""
        names = local_names(self.output, run)
        wanted = [name for name in names if self.selection.takes(name, run)]
        result = RunNames(run).result
        has_result = result in names
        if result in listing and wanted:
            if not has_result:
                self._keep(run.path, "the bucket has a result of this run: pull it")
                return False
            if self._sha256(result) != self.memory.remote_sha256(listing[result]):
                self._put_aside(run)
                return False
        if result in wanted and result not in listing:
            self._refuse_unusable(run)
        shown = False
        for name in in_order(wanted, run):
            sent = self._file(name, listing.get(name), is_owner=has_result)
            shown = shown or (sent and name == result)
        return shown and not self.is_dry

    def _file(self, name: str, there: Stored | None, *, is_owner: bool) -> bool:
        """Send one file unless it is there, or somebody else's is; whether it was sent."""
        try:
            with snapshot(self.output / name) as source:
                sha256 = self.memory.local_sha256(name, source)
                if there and not self._may_replace(name, sha256, there, is_owner=is_owner):
                    return False
                if self.is_dry:
                    self.report.was_moved(name, source.size)
                    return True
                upload = Upload(
                    bucket=self.bucket,
                    name=name,
                    source=source,
                    sha256=sha256,
                    only_if=self._condition(there),
                    notes=self.memory.paths,
                )
                etag = upload.send()
        except FileNotFoundError:
            # Checkpoints are pruned by their trainer while it goes on.
            return False
        if etag is None:
            raise _OvertakenError
        self.memory.saw(name, Known(size=source.size, etag=etag, sha256=sha256))
        self.memory.agree(name, sha256)
        self.report.was_moved(name, source.size)
        return True

    def _may_replace(self, name: str, sha256: str, there: Stored, *, is_owner: bool) -> bool:
        theirs = self.memory.remote_sha256(there)
        decision = decide(sha256, theirs, self.memory.agreed(name), is_owner=is_owner)
        if decision is Decision.SAME:
            self.memory.agree(name, sha256)
            self.report.is_same(name)
        elif decision is not Decision.MOVE:
            self._keep(name, _WHY[decision])
        return decision is Decision.MOVE

    def _condition(self, there: Stored | None) -> str | None:
        if not honours_conditions(self.bucket):
            return None
        return there.etag if there else ABSENT

    def _refuse_unusable(self, run: Run) -> None:
        """RecordError where the result here could never be counted: it would be there for good."""
        path = SweepPaths(self.output).run(run.path).result
        found = read_result(path)
        if (found.run_id, found.config_hash) != (run.run_id, run.config_hash):
            raise RecordError(f"{path} is of another run or configuration: nothing is sent of it")

    def _put_aside(self, run: Run) -> None:
        path = SweepPaths(self.output).run(run.path).result
        name = RunNames(run).aside(read_result(path).token)
        reason = f"the bucket has another result of {run.run_id}: this one is kept as {name}"
        if not self.is_dry:
            self.bucket.put(name, path.read_bytes(), only_if=ABSENT)
        self.report.aside.append(Remark(RunNames(run).result, reason))

    def _keep(self, name: str, reason: str) -> None:
        self.report.kept.append(Remark(name, reason))

    def _sha256(self, name: str) -> str:
        with snapshot(self.output / name) as source:
            return self.memory.local_sha256(name, source)


def prepare(push: Push) -> Sweep:
    """The plan of the output folder, which the bucket has too now (in a dry run: would have)."""
    refuse_missing_sweep(push.output)
    path = SweepPaths(push.output).sweep
    sweep = read_sweep(path)
    if not push.is_dry:
        return agree_on_plan(push.bucket, push.memory, sweep, path.read_bytes())
    there = plan_in(push.bucket, push.memory.view)
    if there:
        refuse_difference(push.bucket, there, sweep)
    return there or sweep
