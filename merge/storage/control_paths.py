"""Paths of what the control plane keeps in an output folder beside the runs (see `paths`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def plan_lock(output: Path) -> Path:
    """Held while runs are added to the plan of `output`."""
    return output / ".plan.lock"


EVALUATIONS = "evaluations"
"""The folder of an output folder's evaluations, and of their places in a bucket."""


def evaluation_folder(output: Path, name: str) -> Path:
    """The output folder of one evaluation of the trainings in `output`."""
    return output / EVALUATIONS / name


def trainings_folder(evaluation: Path) -> Path:
    """The output folder whose trainings the evaluation in a folder tests."""
    return evaluation.parent.parent


def evaluation_folders(output: Path) -> list[Path]:
    """The evaluations in `output` that have a plan, by name."""
    try:
        found = sorted((output / EVALUATIONS).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder for folder in found if (folder / "sweep.json").is_file()]


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

    def view(self, digest: str, name: str) -> Path:
        """The plan and the results of one place in a bucket, as an output folder."""
        return self.root / f"view-{digest}" / name


@dataclass(frozen=True, slots=True)
class SubmissionPaths:
    """Paths of one submission: its record, scripts, workers and logs."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "submission.json"

    @property
    def workers(self) -> Path:
        return self.root / "workers"

    def worker(self, name: str) -> Path:
        """The record of the worker `name`, which rewrites it at each heartbeat."""
        return self.workers / f"{name}.json"

    def runs(self, name: str) -> Path:
        """The ids of the runs that `name` was given, one a line."""
        return self.root / "runs" / f"{name}.txt"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def script(self, name: str) -> Path:
        return self.root / f"{name}.sbatch"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


@dataclass(frozen=True, slots=True)
class SnapshotPaths:
    """Paths of a frozen copy of the code."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "snapshot.json"

    @property
    def papergrid(self) -> Path:
        """What stands for the root of papergrid's own source tree."""
        return self.root / "papergrid"

    @property
    def work(self) -> Path:
        """What stands for the root of the checkout that a study's command is started in."""
        return self.root / "work"
