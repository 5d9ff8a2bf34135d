"""The merged JSON in a bucket: compare-and-swap, so that no server's view ever undoes another's.

Its etag is read first, the results are listed afterwards: whatever an earlier view had seen, this
one sees too. Where another view came in between, the condition fails and all is read again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import BucketUnavailableError
from merge.records.sweep import Run, Sweep
from merge.results.collect import gather
from merge.results.combine import Merged, combine
from merge.results.documents import view_bytes
from merge.results.entries import Problem
from merge.results.index import load_index
from merge.results.unite import Contribution
from merge.storage.atomic import write_atomic
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import ABSENT, Bucket, Stored, delay_s
from orchestrator.s3.conditional_writes import refuse_without_conditions
from orchestrator.s3.download import damaged
from orchestrator.sync.cache import Memory, sha256_hex
from orchestrator.sync.files import RunNames

MERGED = SweepPaths.RESULTS_NAME
_MOST_ROUNDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedInBucket:
    """The view of all results that a bucket holds."""

    merged: Merged
    was_written: bool
    """False where the view that was there is the same."""


def merge_in_bucket(bucket: Bucket, memory: Memory, sweep: Sweep) -> MergedInBucket:
    """Bring the merged JSON of a bucket up to date with the results there.

    BucketError where the store ignores conditions, BucketUnavailableError where others never let
    us through.
    """
    refuse_without_conditions(bucket)
    for attempt in range(_MOST_ROUNDS):
        there = bucket.get(MERGED)
        merged, data = results_in(bucket, memory, sweep)
        if there and there[0] == data:
            return MergedInBucket(merged=merged, was_written=False)
        condition = there[1].etag if there else ABSENT
        if bucket.put(MERGED, data, only_if=condition) is not None:
            return MergedInBucket(merged=merged, was_written=True)
        time.sleep(delay_s(attempt, longest_s=2.0))
    raise BucketUnavailableError(
        f"{bucket.target.url}/{MERGED} was changed by others {_MOST_ROUNDS} times in a row: the "
        f"results are there; give the same command again for the merged JSON"
    )


def results_in(bucket: Bucket, memory: Memory, sweep: Sweep) -> tuple[Merged, bytes]:
    """The view that the results in a bucket make now, and the text it has as a file."""
    merged = combine({str(bucket.target.url): _Results(bucket, memory, sweep).read()})
    return merged, view_bytes(merged.document)


@dataclass(frozen=True, slots=True)
class _Results:
    """All results of a bucket, fetched once each into a folder of their own."""

    bucket: Bucket
    memory: Memory
    sweep: Sweep

    def read(self) -> Contribution:
        """What the bucket contributes to a merged view; damaged results are problems.

        What was fetched or read once is neither fetched nor read again.
        """
        listing = {stored.name: stored for stored in self.bucket.list()}
        wanted = self._wanted(listing)
        self._forget(wanted)
        with ThreadPoolExecutor(self.bucket.target.max_concurrency) as pool:
            found = pool.map(lambda item: self._fetch(item[0], listing[item[1]]), wanted)
            problems = [problem for problem in found if problem]
        self.memory.save(now=False)
        index = load_index(self._view, self.memory.view.merge_index)
        part = gather(self._view, self.sweep, index)
        if index.is_changed:
            index.save(self.memory.view.merge_index)
        return replace(part, problems=(*part.problems, *problems))

    @property
    def _view(self) -> Path:
        return self.memory.view.root

    def _wanted(self, listing: Mapping[str, Stored]) -> list[tuple[Run, str]]:
        runs = {RunNames(run).result: run for run in self.sweep.runs}
        wanted = [(run, name) for name, run in runs.items() if name in listing]
        by_folder = {run.path: run for run in self.sweep.runs}
        for name in sorted(listing):
            run = by_folder.get(name.rpartition("/")[0])
            if run and RunNames(run).is_aside(name):
                wanted.append((run, name))
        return wanted

    def _forget(self, wanted: list[tuple[Run, str]]) -> None:
        """Remove from the view what the bucket no longer has."""
        names = {name for _, name in wanted}
        for run in self.sweep.runs:
            paths = self.memory.view.run(run.path)
            for path in (paths.result, *paths.results_aside()):
                if path.relative_to(self._view).as_posix() not in names:
                    path.unlink(missing_ok=True)

    def _fetch(self, run: Run, stored: Stored) -> Problem | None:
        """Bring one result into the view; what is wrong with it, where it is damaged."""
        path = self._view / stored.name
        if self.memory.is_viewed(stored) and path.is_file():
            return None
        answer = self.bucket.get(stored.name)
        if answer is None:
            return None
        data, head = answer
        found = sha256_hex(data)
        if head.sha256 is not None and found != head.sha256:
            path.unlink(missing_ok=True)
            reason = damaged(self.bucket, stored.name, head.sha256, found)
            return Problem(
                run_id=run.run_id, folder=self._view.name, file=stored.name, reason=reason
            )
        write_atomic(path, lambda file: file.write(data))
        if head.etag == stored.etag:
            self.memory.has_viewed(stored)
        return None
