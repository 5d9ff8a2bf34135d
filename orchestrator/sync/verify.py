"""Comparing every object with its stored checksum and with the file of the same name here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.sweep import Run, Sweep
from merge.results.collect import refuse_missing_sweep
from orchestrator.s3.bucket import Bucket, Stored
from orchestrator.s3.download import damaged, pieces
from orchestrator.s3.upload import snapshot
from orchestrator.sync.cache import Memory
from orchestrator.sync.files import Selection, local_names, owner_of, runs_by_path, travels
from orchestrator.sync.merged_view import MERGED, results_in
from orchestrator.sync.plan import PLAN, plan_needed_in
from orchestrator.sync.pull import expected_sha256, is_running
from orchestrator.sync.report import Remark


@dataclass(slots=True, kw_only=True)
class Verified:
    """What was compared, and all that is not as it should be."""

    num_equal: int = 0
    """Equal here and there, and to the checksum stored there."""
    num_only_there: int = 0
    """Other servers' files, equal to their stored checksum."""
    num_bytes: int = 0
    """Read from the bucket."""
    damaged: list[Remark] = field(default_factory=list)
    different: list[Remark] = field(default_factory=list)
    missing: list[Remark] = field(default_factory=list)
    """Here, and not in the bucket."""
    foreign: list[str] = field(default_factory=list)
    """Objects that belong to no run of the plan."""
    running: list[str] = field(default_factory=list)
    """Runs that go on here: their files change, so they are not compared."""

    @property
    def exit_code(self) -> int:
        """0 all equal, 1 something is damaged or differs, 3 something is missing."""
        if self.damaged or self.different:
            return 1
        return 3 if self.missing else 0

    def to_json(self) -> dict[str, Any]:
        remarks = {"damaged": self.damaged, "different": self.different, "missing": self.missing}
        return {
            "num_equal": self.num_equal,
            "num_only_there": self.num_only_there,
            "num_bytes": self.num_bytes,
            **{k: [{"file": r.name, "reason": r.reason} for r in v] for k, v in remarks.items()},
            "foreign": self.foreign,
            "running": self.running,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """One output folder against one place in a bucket."""

    output: Path
    bucket: Bucket
    memory: Memory
    selection: Selection
    is_quick: bool = False
    """Compare stored checksums without reading the objects."""

    def everything(self) -> Verified:
        """Compare all files and objects of the selection. IncompleteError where a plan lacks."""
        refuse_missing_sweep(self.output)
        sweep = plan_needed_in(self.bucket, self.memory.view)
        listing = {stored.name: stored for stored in self.bucket.list()}
        verified = Verified()
        here, compared = self._names(sweep, listing, verified)
        with ThreadPoolExecutor(self.bucket.target.max_concurrency) as pool:
            outcomes = pool.map(lambda name: self._compare(name, listing, here), sorted(compared))
            for outcome in outcomes:
                outcome.count(verified)
        if MERGED in listing and not self.selection.include:
            self._compare_view(sweep, verified)
        self.memory.save()
        return verified

    def _names(
        self, sweep: Sweep, listing: Mapping[str, Stored], verified: Verified
    ) -> tuple[set[str], set[str]]:
        """The files that are here, and all names to compare."""
        by_path = runs_by_path(sweep)
        here = {name for run in sweep.runs for name in self._here(run, verified)}
        running = set(verified.running)
        compared = set(here)
        for name in sorted(listing):
            run = owner_of(name, by_path)
            if run is None or not travels(name):
                if name not in (PLAN, MERGED) and not name.startswith("."):
                    verified.foreign.append(name)
            elif self.selection.takes(name, run) and run.path not in running:
                compared.add(name)
        return here, compared

    def _here(self, run: Run, verified: Verified) -> list[str]:
        if is_running(self.output, run):
            verified.running.append(run.path)
            return []
        names = local_names(self.output, run)
        return [name for name in names if self.selection.takes(name, run)]

    def _compare(self, name: str, listing: Mapping[str, Stored], here: set[str]) -> _Outcome:
        stored = listing.get(name)
        if stored is None:
            return _Outcome("missing", Remark(name, "not in the bucket: push it"))
        try:
            expected, read = self._stored_sha256(stored)
        except RecordError as error:
            return _Outcome("damaged", Remark(name, str(error)), stored.size)
        if name not in here:
            return _Outcome("only_there", num_bytes=read)
        with snapshot(self.output / name) as source:
            # What has rotted on a disk keeps its time and size: only reading finds it.
            here_sha256 = (
                self.memory.local_sha256(name, source) if self.is_quick else source.sha256()
            )
            if here_sha256 == expected:
                return _Outcome("equal", num_bytes=read)
        reason = "the object is intact, the file here is another: push or pull"
        return _Outcome("different", Remark(name, reason), read)

    def _stored_sha256(self, stored: Stored) -> tuple[str, int]:
        """The checksum that an object has by right, and how many bytes were read to prove it."""
        head = self.bucket.head(stored.name)
        if head is None:
            raise RecordError(f"{self.bucket.target.url}/{stored.name} was removed meanwhile")
        expected = expected_sha256(self.bucket, stored.name, head)
        found, read = head.server_sha256 or expected, 0
        if not self.is_quick:
            digest = hashlib.sha256()
            for data in pieces(self.bucket, stored):
                digest.update(data)
            found, read = digest.hexdigest(), stored.size
        if found != expected:
            raise RecordError(damaged(self.bucket, stored.name, expected, found))
        return expected, read

    def _compare_view(self, sweep: Sweep, verified: Verified) -> None:
        """Whether the merged JSON in the bucket is that of the results there."""
        merged, text = results_in(self.bucket, self.memory, sweep)
        there = self.bucket.get(MERGED)
        for problem in merged.problems:
            if problem.file not in {remark.name for remark in verified.damaged}:
                verified.damaged.append(Remark(problem.file, problem.reason))
        if there is None or there[0] != text:
            reason = "not what the results there make: `replicate sync push` brings it up to date"
            verified.different.append(Remark(MERGED, reason))


@dataclass(frozen=True, slots=True)
class _Outcome:
    what: str
    remark: Remark | None = None
    num_bytes: int = 0

    def count(self, verified: Verified) -> None:
        verified.num_bytes += self.num_bytes
        if self.remark:
            getattr(verified, self.what).append(self.remark)
        elif self.what == "equal":
            verified.num_equal += 1
        else:
            verified.num_only_there += 1
