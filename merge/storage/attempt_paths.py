"""Paths inside the folder of one attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from merge.storage.disk import SYSTEM_DISK, Disk


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """Paths of one attempt's folder, and the disk that it is on."""

    root: Path
    disk: Disk = field(default=SYSTEM_DISK, repr=False, compare=False)

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
    def spec(self) -> Path:
        """The run's spec where this attempt was given other values that decide no number."""
        return self.root / "run.json"

    @property
    def environment(self) -> Path:
        return self.root / "env.json"

    @property
    def per_item_counts(self) -> Path:
        """Counts of each test item, where the trainer keeps them."""
        return self.root / "episode_counts.json"

    @property
    def error(self) -> Path:
        """What the trainer says of its failure: {"kind": ..., "message": ...}."""
        return self.root / "error.json"

    @property
    def stop(self) -> Path:
        """The executor's request to the other nodes of a SLURM job to stop their ranks."""
        return self.root / "stop.json"

    @property
    def result(self) -> Path:
        """What the trainer leaves; the executor commits it as the run's result."""
        return self.root / "result.json"

    @property
    def misplaced_result(self) -> Path:
        """What the trainer left as the run's result.json instead: moved here, never counted."""
        return self.root / "result.misplaced.json"
