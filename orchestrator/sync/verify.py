"""Comparing every object with its stored checksum and with the file of the same name here."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from merge.errors import RecordError
from merge.records.plan_union import grown_plan
from merge.records.sweep import Run, Sweep, read_sweep
from merge.results.collect import refuse_missing_sweep
from merge.storage.control_paths import EVALUATIONS
from merge.storage.paths import SweepPaths
from orchestrator.s3.checksums import (
    MAX_READS,
    differs_each_time,
    refuse_mismatch,
    removed_meanwhile,
)
from orchestrator.s3.download import read_ranges
from orchestrator.s3.objects import ListedObject
from orchestrator.s3.upload import snapshot
from orchestrator.sync.listing import Listing
from orchestrator.sync.local_files import local_files
from orchestrator.sync.merged_view import MERGED_VIEW, merge_results_in
from orchestrator.sync.plan import PLAN, refuse_different_plan, require_plan
from orchestrator.sync.pull import required_sha256
from orchestrator.sync.report import SyncIssue, issues_to_json
from orchestrator.sync.running import Activity
from orchestrator.sync.selection import is_synced, run_of_name, runs_by_path
from orchestrator.sync.transfer import Transfer

_NOT_FOREIGN = (".", f"{EVALUATIONS}/")
"""How names begin that belong to no run and are no problem: evaluations are synced on their own."""


@dataclass(slots=True, kw_only=True)
class VerifyReport:
    """What was compared, and everything that is not as it should be."""

    num_equal: int = 0
    """Equal here and in the bucket, and to the checksum stored there."""
    num_only_there: int = 0
    """Files of other servers, equal to their stored checksum."""
    num_bytes: int = 0
    """Read from the bucket."""
    damaged: list[SyncIssue] = field(default_factory=list)
    different: list[SyncIssue] = field(default_factory=list)
    missing: list[SyncIssue] = field(default_factory=list)
    """Here, and not in the bucket; also what no push sends, such as links that are not followed."""
    foreign: list[str] = field(default_factory=list)
    """Objects that belong to no run of the plan."""
    running: list[str] = field(default_factory=list)
    """Paths of runs that are running here: their files change, so they are not compared."""

    @property
    def exit_code(self) -> int:
        """0: all equal. 1: something is damaged or differs. 3: something is missing."""
        if self.damaged or self.different:
            return 1
        return 3 if self.missing else 0

    def to_json(self) -> dict[str, Any]:
        """What `replicate sync verify --json` prints."""
        return {
            "num_equal": self.num_equal,
            "num_only_there": self.num_only_there,
            "num_bytes": self.num_bytes,
            **issues_to_json(
                {"damaged": self.damaged, "different": self.different, "missing": self.missing}
            ),
            "foreign": self.foreign,
            "running": self.running,
        }


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The outcome for one name."""

    outcome: Literal["equal", "only there", "missing", "damaged", "different"]
    issue: SyncIssue | None = None
    num_bytes: int = 0
    """Read from the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(Transfer):
    """One output folder against one place in a bucket; transfers nothing."""

    def compare_all(self, *, is_quick: bool = False) -> VerifyReport:
        """Compare all files and objects of the selection. IncompleteError where a plan is missing.

        `is_quick`: compare the stored checksums without reading the objects.
        """
        refuse_missing_sweep(self.output)
        sweep = self._plan_of_both()
        listing = self.list_objects()
        report = VerifyReport()
        local, names = self._names(sweep, listing, report)
        compare = partial(self._compare, listing=listing, local=local, is_quick=is_quick)
        with ThreadPoolExecutor(self.bucket.target.max_concurrency) as pool:
            for comparison in pool.map(compare, sorted(names)):
                _count(comparison, report)
        self._leave_out_running(sweep, report)
        if MERGED_VIEW in listing and not self.selection.include:
            self._compare_merged_view(sweep, report)
        self.cache.save()
        return report

    def _plan_of_both(self) -> Sweep:
        """A run that only one of both plans has is compared, too: its files are missing."""
        remote = require_plan(self.bucket, self.cache.mirror)
        local = read_sweep(SweepPaths(self.output).sweep)
        refuse_different_plan(self.bucket, remote, local)
        return grown_plan(remote, local)

    def _names(
        self, sweep: Sweep, listing: Listing, report: VerifyReport
    ) -> tuple[set[str], set[str]]:
        """The files that are here, and all names to compare."""
        by_path = runs_by_path(sweep)
        local = {name for run in sweep.runs for name in self._local(run, report)}
        running = set(report.running)
        names = set(local)
        for name in sorted(listing):
            run = run_of_name(name, by_path)
            if run is None or not is_synced(name):
                if name not in (PLAN, MERGED_VIEW) and not name.startswith(_NOT_FOREIGN):
                    report.foreign.append(name)
            elif self.selection.includes(name, run) and run.path not in running:
                names.add(name)
        return local, names

    def _leave_out_running(self, sweep: Sweep, report: VerifyReport) -> None:
        """Watch the claims of other hosts, where it matters: a live run's files change."""
        by_path = runs_by_path(sweep)
        issues = (*report.different, *report.missing)
        runs = {run.run_id: run for i in issues if (run := run_of_name(i.name, by_path))}
        found = self.claims.watch(list(runs.values()))
        running = {run.path for run in runs.values() if found[run.run_id] is Activity.RUNNING}
        report.running += sorted(running)
        for issues_of_kind in (report.different, report.missing):
            issues_of_kind[:] = [
                i
                for i in issues_of_kind
                if (run := run_of_name(i.name, by_path)) is None or run.path not in running
            ]

    def _local(self, run: Run, report: VerifyReport) -> list[str]:
        if self.claims.look(run) is Activity.RUNNING:
            report.running.append(run.path)
            return []
        files = local_files(self.output, run)
        report.missing += [i for i in files.left_out if self.selection.includes(i.name, run)]
        return [name for name in files.names if self.selection.includes(name, run)]

    def _compare(
        self, name: str, *, listing: Listing, local: set[str], is_quick: bool
    ) -> _Comparison:
        listed = listing.get(name)
        if listed is None:
            return _Comparison("missing", SyncIssue(name, "not in the bucket: push it"))
        try:
            expected, num_read = self._confirmed_sha256(listed, is_quick=is_quick)
        except RecordError as error:
            return _Comparison("damaged", SyncIssue(name, str(error)), listed.size)
        if name not in local:
            return _Comparison("only there", num_bytes=num_read)
        if self._file_sha256(name, is_quick=is_quick) == expected:
            return _Comparison("equal", num_bytes=num_read)
        reason = "the object is intact, and the file here differs from it: push or pull"
        return _Comparison("different", SyncIssue(name, reason), num_read)

    def _file_sha256(self, name: str, *, is_quick: bool) -> str:
        with snapshot(self.output / name) as source:
            # The cache knows a file by size and time. Bit rot on a disk changes neither: only
            # reading finds it.
            return self.cache.local_sha256(name, source) if is_quick else source.sha256()

    def _confirmed_sha256(self, listed: ListedObject, *, is_quick: bool) -> tuple[str, int]:
        """As `_stored_sha256`; an object is damaged only where two readings find the same."""
        problems: list[str] = []
        while True:
            try:
                return self._stored_sha256(listed, is_quick=is_quick)
            except RecordError as error:
                if str(error) in problems:
                    raise
                problems.append(str(error))
                if len(problems) == MAX_READS:
                    raise differs_each_time() from error

    def _stored_sha256(self, listed: ListedObject, *, is_quick: bool) -> tuple[str, int]:
        """The SHA-256 that an object must have, and how many bytes were read to check it."""
        url = self.bucket.url(listed.name)
        head = self.bucket.head(listed.name)
        if head is None:
            raise removed_meanwhile(url)
        expected = required_sha256(self.bucket, listed.name, head)
        if is_quick:
            refuse_mismatch(url, expected, head.server_sha256 or expected)
            return expected, 0
        digest = hashlib.sha256()
        for data in read_ranges(self.bucket, listed):
            digest.update(data)
        refuse_mismatch(url, expected, digest.hexdigest())
        return expected, listed.size

    def _compare_merged_view(self, sweep: Sweep, report: VerifyReport) -> None:
        """Whether the merged JSON in the bucket is that of the results there."""
        merged, text = merge_results_in(self.bucket, self.cache, sweep)
        stored = self.bucket.get(MERGED_VIEW)
        known = {issue.name for issue in report.damaged}
        for problem in merged.problems:
            if problem.file not in known:
                report.damaged.append(SyncIssue(problem.file, problem.reason))
        if stored is None or stored[0] != text:
            reason = "does not match the results in the bucket: `replicate sync push` updates it"
            report.different.append(SyncIssue(MERGED_VIEW, reason))


def _count(comparison: _Comparison, report: VerifyReport) -> None:
    report.num_bytes += comparison.num_bytes
    issues = {
        "missing": report.missing,
        "damaged": report.damaged,
        "different": report.different,
    }
    if comparison.issue:
        issues[comparison.outcome].append(comparison.issue)
    elif comparison.outcome == "equal":
        report.num_equal += 1
    else:
        report.num_only_there += 1
