"""The merged JSON in a bucket: compare-and-swap, so that no server removes another's results.

Its ETag is read first, the results are listed afterwards. Listings are consistent, so this view
contains every result that the view before it contained. Where another server wrote a view in
between, the condition of the write fails and everything is read again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import BucketUnavailableError, RecordError
from merge.records.sweep import Run, Sweep
from merge.results.collect import gather
from merge.results.combine import Merged, combine
from merge.results.documents import view_bytes
from merge.results.entries import Problem
from merge.results.index import load_index
from merge.results.unite import Contribution
from merge.storage.atomic import remove_file, write_atomic
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.json_files import parse_json
from merge.storage.paths import SweepPaths
from orchestrator.s3.backoff import backoff_s
from orchestrator.s3.bucket import ABSENT, Bucket
from orchestrator.s3.checksums import mismatch, sha256_hex
from orchestrator.s3.conditional_writes import require_safe_merging
from orchestrator.s3.objects import ListedObject
from orchestrator.sync.cache import SyncCache
from orchestrator.sync.listing import Listing, first_present, list_objects
from orchestrator.sync.selection import RunNames, runs_by_path

MERGED_VIEW = SweepPaths.RESULTS_NAME
_MAX_ROUNDS = 60
"""Up to two minutes of back-off: many servers may finish a run at the same time."""


def update_merged_view(
    bucket: Bucket, cache: SyncCache, sweep: Sweep, clock: Clock = SYSTEM_CLOCK
) -> None:
    """Bring the merged JSON of a bucket up to date with the results there.

    BucketError where the store ignores conditions, BucketUnavailableError where other servers
    write the view again and again.
    """
    require_safe_merging(bucket)
    for attempt in range(_MAX_ROUNDS):
        current = bucket.get(MERGED_VIEW)
        merged, data = merge_results_in(bucket, cache, sweep)
        if current and current[0] == data:
            return
        lost = _lost_result(bucket, current[0], merged) if current else None
        condition = current[1].etag if current else ABSENT
        if lost is None and bucket.put(MERGED_VIEW, data, only_if=condition) is not None:
            return
        clock.sleep(backoff_s(attempt, longest_s=2.0))
    if lost:
        raise BucketUnavailableError(
            f"{bucket.url(MERGED_VIEW)} has the result of {lost}, which was not found among the "
            f"results in the bucket: the merged JSON stays as it is; run the same command again"
        )
    raise BucketUnavailableError(
        f"other servers changed {bucket.url(MERGED_VIEW)} {_MAX_ROUNDS} times in a row: all "
        f"results are in the bucket; run the same command again to update the merged JSON"
    )


def _lost_result(bucket: Bucket, current: bytes, merged: Merged) -> str | None:
    """A run whose result is in the view in the bucket and not in `merged`; None where none is.

    A result that was removed from the bucket, or is damaged there, is not lost.
    """
    explained = {problem.run_id for problem in merged.problems}
    lost: list[str] = sorted(_run_ids(bucket, current) - merged.document["runs"].keys() - explained)
    by_id = {run.run_id: run for run in merged.sweep.runs}
    for run_id in lost:
        # A run that this plan does not have: another server's plan has grown since.
        if run_id not in by_id or first_present(bucket, [RunNames(by_id[run_id]).result]):
            return run_id
    return None


def _run_ids(bucket: Bucket, view: bytes) -> set[str]:
    """The runs whose results a view has; empty where it is unreadable, so that it is rebuilt."""
    try:
        runs = parse_json(bucket.url(MERGED_VIEW), view).get("runs")
    except RecordError:
        return set()
    return set(runs) if isinstance(runs, dict) else set()


def merge_results_in(bucket: Bucket, cache: SyncCache, sweep: Sweep) -> tuple[Merged, bytes]:
    """The merged view of the results in a bucket now, and its text as a file."""
    merged = combine({str(bucket.target.url): _ResultMirror(bucket, cache, sweep).read()})
    return merged, view_bytes(merged.document)


@dataclass(frozen=True, slots=True)
class _ResultMirror:
    """Copies of all results of a bucket, each fetched once."""

    bucket: Bucket
    cache: SyncCache
    sweep: Sweep

    def read(self) -> Contribution:
        """What the bucket contributes to a merged view; damaged results are problems."""
        listing = list_objects(self.bucket, self.cache)
        wanted = self._results(listing)
        self._remove_all_but({name for _, name in wanted})
        with ThreadPoolExecutor(self.bucket.target.max_concurrency) as pool:
            found = pool.map(lambda item: self._fetch(item[0], listing[item[1]]), wanted)
            problems = [problem for problem in found if problem]
        self.cache.save(now=False)
        index = load_index(self._root, self.cache.mirror.merge_index, self.sweep.manifest)
        part = gather(self._root, self.sweep, index)
        if index.is_changed:
            index.save(self.cache.mirror.merge_index)
        return replace(part, problems=(*part.problems, *problems))

    @property
    def _root(self) -> Path:
        return self.cache.mirror.root

    def _results(self, listing: Listing) -> list[tuple[Run, str]]:
        """The objects that hold a result, with their run; then those kept aside."""
        by_result = {RunNames(run).result: run for run in self.sweep.runs}
        wanted = [(run, name) for name, run in by_result.items() if name in listing]
        by_path = runs_by_path(self.sweep)
        for name in sorted(listing):
            run = by_path.get(name.rpartition("/")[0])
            if run and RunNames(run).is_aside(name):
                wanted.append((run, name))
        return wanted

    def _remove_all_but(self, names: set[str]) -> None:
        """Remove from the mirror what the bucket no longer has."""
        for run in self.sweep.runs:
            paths = self.cache.mirror.run(run.path)
            for path in (paths.result, *paths.results_aside()):
                if path.relative_to(self._root).as_posix() not in names:
                    remove_file(path)

    def _fetch(self, run: Run, listed: ListedObject) -> Problem | None:
        """Copy one result into the mirror; a problem where it is damaged."""
        path = self._root / listed.name
        if self.cache.is_mirrored(listed) and path.is_file():
            return None
        answer = self.bucket.get(listed.name)
        if answer is None:
            return None
        data, head = answer
        found = sha256_hex(data)
        if head.sha256 is not None and found != head.sha256:
            remove_file(path)
            reason = mismatch(self.bucket.url(listed.name), head.sha256, found)
            return Problem(
                run_id=run.run_id, folder=self._root.name, file=listed.name, reason=reason
            )
        write_atomic(path, lambda file: file.write(data))
        # The object may have been replaced between listing and reading: then it is read again.
        if head.etag == listed.etag:
            self.cache.record_mirrored(listed)
        return None
