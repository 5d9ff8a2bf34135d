"""The only place where paths inside an output folder are spelled.

<output>/
  sweep.json                      the frozen plan
  replication_results.json        the merged view (rebuildable)
  shards/<name>.json              a division of runs by duration, settled once for all servers
  .sync/ .merge-index.json        what sync with a bucket, and the last merge, read (rebuildable)
  submissions/<id>/               one `replicate submit`
    submission.json               its arrays with tasks and job ids, or its servers
    array-1.sbatch merge.sbatch   the scripts exactly as they were sent
    runs/ workers/ logs/          runs of each server; its worker's heartbeat; what it prints
  code/<digest>/                  a frozen copy of the code, and snapshot.json
  evaluations/<name>/             its trainings tested again: an output folder of its own
  <run path>/                     one run, e.g. pascal5i_resnet50_1shot/fold0
    run.json                      resolved configuration, written once
    claim-0001.json request-0001.json   who has it; to stop or retry it; the highest counts
    attempts/0001/                attempt.json env.json *.log events.jsonl result.json
    checkpoints/last.pt best.pt
    training.log metrics.json     its epochs, and its model_info.txt, for people (rebuildable)
    result.json                   immutable, created exclusively
    result.aside-*.json           a second result, kept and reported, never counted
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from merge.storage.attempt_paths import AttemptPaths
from merge.storage.control_paths import SnapshotPaths, SubmissionPaths, SyncPaths
from merge.storage.disk import SYSTEM_DISK, Disk
from merge.storage.nfs import fresh_names

__all__ = [
    "RESERVED_NAMES",
    "RESERVED_STARTS",
    "AttemptPaths",
    "RunPaths",
    "SweepPaths",
    "is_claim_or_request",
]

RESERVED_NAMES = frozenset(
    {
        "attempts",
        "checkpoints",
        "code",
        "evaluations",
        "logs",
        "merged_results.json",
        "metrics.json",
        "model_info.txt",
        "panels",
        "replication_results.json",
        "report.csv",
        "report.html",
        "report.md",
        "report.tex",
        "result.json",
        "run.json",
        "shards",
        "slurm",
        "submissions",
        "sweep.json",
        "tensorboard",
        "training.log",
    }
)
"""Names that the layout of an output folder uses itself, at any depth."""
RESERVED_STARTS = ("claim-", "request-", "result.aside-")
"""How names in a run's folder begin that the layout uses itself."""

# Four digits, so that names sort; a number above 9999 has more.
_CLAIM_NAME = re.compile(r"claim-(\d{4,})\.json")
_REQUEST_NAME = re.compile(r"request-(\d{4,})\.json")


def is_claim_or_request(name: str) -> bool:
    """Whether a file of this name is a claim or a request."""
    return any(pattern.fullmatch(name) for pattern in (_CLAIM_NAME, _REQUEST_NAME))


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

    def report(self, suffix: str) -> Path:
        """`suffix` is md, tex, csv or html."""
        return self.root / f"report.{suffix}"

    @property
    def merged(self) -> Path:
        """What a merge of several inputs is called in a folder."""
        return self.root / "merged_results.json"

    @property
    def merge_lock(self) -> Path:
        return self.root / ".merge.lock"

    def shards(self, name: str) -> Path:
        return self.root / "shards" / f"{name}.json"

    @property
    def sync(self) -> SyncPaths:
        return SyncPaths(self.root / ".sync")

    @property
    def merge_index(self) -> Path:
        return self.root / ".merge-index.json"

    @property
    def submissions(self) -> Path:
        return self.root / "submissions"

    def submission(self, submission_id: str) -> SubmissionPaths:
        return SubmissionPaths(self.submissions / submission_id)

    def worker_records(self) -> list[Path]:
        """What the workers of all submissions say of themselves, as far as it lies here."""
        return sorted(self.submissions.glob("*/workers/*.json"))

    @property
    def code(self) -> Path:
        return self.root / "code"

    def snapshot(self, digest: str) -> SnapshotPaths:
        return SnapshotPaths(self.code / digest)

    def probe(self, name: str) -> Path:
        """A folder in which hosts show each other that they share this output folder."""
        return self.root / f".probe-{name}"

    @property
    def meetings(self) -> Path:
        """Where two processes of `replicate doctor` meet; removed by them."""
        return self.root / ".doctor"

    def run(self, run_path: str) -> RunPaths:
        return RunPaths(self.root / run_path)


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Paths of one run's folder, and the disk that it is on."""

    root: Path
    disk: Disk = field(default=SYSTEM_DISK, repr=False, compare=False)

    @property
    def spec(self) -> Path:
        return self.root / "run.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    def has_result(self) -> bool:
        """Whether a result is there, as far as this user may look into the folder."""
        return self.disk.exists(self.result)

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.pt"

    @property
    def best_checkpoint(self) -> Path:
        return self.checkpoints / "best.pt"

    @property
    def training_log(self) -> Path:
        """The epochs as lines of text, as our own trainers write them."""
        return self.root / "training.log"

    @property
    def metrics(self) -> Path:
        """The epochs and evaluations as JSON."""
        return self.root / "metrics.json"

    @property
    def model_info(self) -> Path:
        """Parameters and layers of the model."""
        return self.root / "model_info.txt"

    @property
    def tensorboard(self) -> Path:
        """Scalars of all attempts, as TensorBoard writes them."""
        return self.root / "tensorboard"

    def has_curves(self) -> bool:
        """Whether TensorBoard can show the run, as far as this user may look into the folder."""
        return self.disk.exists(self.tensorboard)

    @property
    def panels(self) -> Path:
        """Pictures of a few test items, as our own trainers draw them."""
        return self.root / "panels"

    def pictures(self) -> list[Path]:
        """The pictures that its trainer drew; none where this user may not look into the folder."""
        try:
            return sorted(self.panels.glob("*.png"))
        except PermissionError:
            return []

    def claim(self, number: int) -> Path:
        return self.root / f"claim-{number:04d}.json"

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    def attempt(self, number: int) -> AttemptPaths:
        return AttemptPaths(self.attempts / f"{number:04d}", self.disk)

    @property
    def attempt_by_hand(self) -> AttemptPaths:
        """Of a trainer that a person starts without papergrid; no executor counts it."""
        return AttemptPaths(self.attempts / "by-hand", self.disk)

    def attempt_number(self, name: str) -> int | None:
        """The number of the attempt whose record's path is `name`; None where it is none."""
        folder = Path(name).parent.name
        # Compared as a whole path: a folder `1` or `00001` is not the folder of attempt 1.
        is_one = folder.isdigit() and Path(name) == self.attempt(int(folder)).record
        return int(folder) if is_one else None

    def result_aside(self, token: str) -> Path:
        return self.root / f"result.aside-{token}.json"

    @staticmethod
    def is_result_aside(name: str) -> bool:
        """Whether a file of this name in a run's folder is a second result."""
        return name.startswith("result.aside-") and name.endswith(".json")

    def results_aside(self) -> list[Path]:
        return sorted(self.root.glob("result.aside-*.json"))

    def claim_number(self, name: str) -> int | None:
        """The number of the claim whose path is `name`; None where it is none of this run's."""
        folder, _, file = name.rpartition("/")
        match = _CLAIM_NAME.fullmatch(file) if Path(folder) == self.root else None
        return int(match[1]) if match else None

    def claim_numbers(self) -> list[int]:
        """Numbers of all claims ever made on this run, ascending; the last one has the run."""
        return self._numbers(_CLAIM_NAME)

    def request(self, number: int) -> Path:
        return self.root / f"request-{number:04d}.json"

    def request_numbers(self) -> list[int]:
        """Numbers of all requests ever made about this run, ascending; the last one holds."""
        return self._numbers(_REQUEST_NAME)

    def _numbers(self, pattern: re.Pattern[str]) -> list[int]:
        names = fresh_names(self.root, self.disk)
        return sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))
