"""The only place where paths inside an output folder are spelled.

<output>/
  sweep.json                      the frozen plan
  replication_results.json        the merged view (rebuildable)
  .sync/                          what sync with a bucket remembers (rebuildable)
  <run path>/                     one run, e.g. pascal5i_resnet50_1shot/fold0
    run.json                      resolved configuration, written once
    claim-0001.json               who has attempt 1; the highest number has the run
    attempts/0001/                attempt.json env.json stdout.log stderr.log
                                  events.jsonl result.json
    checkpoints/last.pt best.pt
    result.json                   immutable, created exclusively
    result.aside-*.json           a second result, kept and reported, never counted
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from merge.files import fresh_names

_CLAIM_NAME = re.compile(r"claim-(\d{4,})\.json")


@dataclass(frozen=True, slots=True)
class SweepPaths:
    """Paths of one output folder."""

    PLAN_NAME: ClassVar[str] = "sweep.json"
    RESULTS_NAME: ClassVar[str] = "replication_results.json"

    root: Path

    @property
    def sweep(self) -> Path:
        return self.root / self.PLAN_NAME

    @property
    def results(self) -> Path:
        return self.root / self.RESULTS_NAME

    @property
    def report(self) -> Path:
        return self.root / "report.md"

    @property
    def merge_lock(self) -> Path:
        return self.root / ".merge.lock"

    @property
    def sync(self) -> SyncPaths:
        return SyncPaths(self.root / ".sync")

    def run(self, run_path: str) -> RunPaths:
        return RunPaths(self.root / run_path)


@dataclass(frozen=True, slots=True)
class SyncPaths:
    """Paths of what sync remembers of an output folder; all of it may be deleted."""

    root: Path

    @property
    def hashes(self) -> Path:
        """SHA-256 of local files, by name, size, time and inode."""
        return self.root / "hashes.json"

    @property
    def pull_lock(self) -> Path:
        return self.root / "pull.lock"

    def place(self, digest: str) -> Path:
        """What one place in a bucket holds, as last seen."""
        return self.root / f"place-{digest}.json"

    def upload(self, digest: str) -> Path:
        """A multipart upload that was begun."""
        return self.root / "uploads" / f"{digest}.json"

    def download(self, digest: str) -> Path:
        """The first bytes of an object."""
        return self.root / "downloads" / f"{digest}.part"

    def view(self, digest: str) -> Path:
        """The plan and the results of one place in a bucket, as an output folder."""
        return self.root / f"view-{digest}"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Paths of one run's folder."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "run.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.pt"

    @property
    def best_checkpoint(self) -> Path:
        return self.checkpoints / "best.pt"

    def claim(self, number: int) -> Path:
        return self.root / f"claim-{number:04d}.json"

    def attempt(self, number: int) -> AttemptPaths:
        return AttemptPaths(self.root / "attempts" / f"{number:04d}")

    def result_aside(self, token: str) -> Path:
        return self.root / f"result.aside-{token}.json"

    def results_aside(self) -> list[Path]:
        return sorted(self.root.glob("result.aside-*.json"))

    def claim_number(self, name: str) -> int | None:
        """The number of the claim whose path is `name`; None where it is none of this run's."""
        folder, _, file = name.rpartition("/")
        match = _CLAIM_NAME.fullmatch(file) if Path(folder) == self.root else None
        return int(match[1]) if match else None

    def claim_numbers(self) -> list[int]:
        """Numbers of all claims ever made on this run, ascending; the last one has the run."""
        names = fresh_names(self.root)
        return sorted(int(match[1]) for name in names if (match := _CLAIM_NAME.fullmatch(name)))


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """Paths of one attempt's folder."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "attempt.json"

    @property
    def stdout(self) -> Path:
        return self.root / "stdout.log"

    @property
    def stderr(self) -> Path:
        return self.root / "stderr.log"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def environment(self) -> Path:
        return self.root / "env.json"

    @property
    def error(self) -> Path:
        """What the trainer says of its failure: {"kind": ..., "message": ...}."""
        return self.root / "error.json"

    @property
    def result(self) -> Path:
        """What the trainer leaves; the executor commits it as the run's result."""
        return self.root / "result.json"
