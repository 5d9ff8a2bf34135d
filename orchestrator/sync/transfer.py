"""What push and pull have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from merge.records.sweep import Run
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.upload import snapshot
from orchestrator.sync.cache import SyncCache
from orchestrator.sync.decide import Decision, decide
from orchestrator.sync.listing import Listing, list_objects
from orchestrator.sync.report import SyncIssue, SyncReport
from orchestrator.sync.running import ClaimWatch
from orchestrator.sync.selection import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One output folder, one place in a bucket, and what is to be synced between them."""

    output: Path
    bucket: Bucket
    cache: SyncCache
    selection: Selection
    report: SyncReport
    claims: ClaimWatch
    """Who trains in the output folder."""
    is_dry: bool = False
    """Report what would be transferred; write nothing."""

    @classmethod
    def between(
        cls,
        output: Path,
        bucket: Bucket,
        selection: Selection | None = None,
        report: SyncReport | None = None,
        *,
        is_dry: bool = False,
    ) -> Self:
        """A transfer of everything, or of `selection`, with the cache of the output folder."""
        return cls(
            output=output,
            bucket=bucket,
            cache=SyncCache(output, bucket),
            selection=selection or Selection(),
            report=report or SyncReport(),
            claims=ClaimWatch(output),
            is_dry=is_dry,
        )

    def for_each_run(self, runs: Iterable[Run], action: Callable[[Run], object]) -> None:
        """Call `action` for all runs, several at a time.

        The first error ends it, after the runs in progress; the cache is saved in any case.
        """
        with ThreadPoolExecutor(self.bucket.target.max_concurrency) as pool:
            try:
                for _ in pool.map(action, runs):
                    self.cache.save(now=False)
            except BaseException:
                # Without cancel_futures the pool would first work off all runs that wait.
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                self.cache.save()

    def list_objects(self, name_prefix: str = "") -> Listing:
        """The objects whose name begins with `name_prefix`, by name; see `listing`."""
        return list_objects(self.bucket, self.cache, name_prefix)

    def local_sha256(self, name: str) -> str | None:
        """The SHA-256 of the file `name`; None where there is no such file."""
        try:
            with snapshot(self.output / name) as source:
                return self.cache.local_sha256(name, source)
        except FileNotFoundError:
            return None

    def may_overwrite(
        self,
        name: str,
        source: str,
        destination: str | None,
        *,
        is_owner: bool,
        reasons: Mapping[Decision, str],
    ) -> bool:
        """Whether the file may be transferred, by SHA-256 values as `decide` takes them.

        Reports a file that is equal, or that is kept, with its reason of `reasons`.
        """
        decision = decide(source, destination, self.cache.last_synced(name), is_owner=is_owner)
        if decision is Decision.EQUAL:
            self.cache.record_synced(name, source)
            self.report.add_unchanged(name)
        elif decision is not Decision.OVERWRITE:
            self.keep(name, reasons[decision])
        return decision is Decision.OVERWRITE

    def keep(self, name: str, reason: str) -> None:
        """Report that a file or a run was left as it is on both sides."""
        issue = SyncIssue(name, reason)
        # The files of a run are looked at once more after its result was sent.
        if issue not in self.report.kept:
            self.report.kept.append(issue)
