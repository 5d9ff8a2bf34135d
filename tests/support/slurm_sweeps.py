"""Sweeps that are sent to a SLURM cluster, and what is seen of them from outside."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.commands import replicate
from support.slurm_cluster import SlurmCluster, wait_for

TRAINER = Path(__file__).with_name("steady_trainer.py")

_WORDS = json.dumps([sys.executable, str(TRAINER), "{steps}", "{pace}", "{save}"])

STEADY = f"""\
name: steady
command: {_WORDS}
axes: {{fold: [0, 1, 2, 3]}}
average_over: fold
metric: score
cell: steady
run_path: "{{cell}}/fold{{fold}}"
fixed: {{steps: 24, pace: 0.25, save: 1000}}
"""
"""A study of `steady_trainer.py`: six seconds a run."""


def steady_score(fold: int, num_steps: int) -> float:
    """What an undisturbed run comes to."""
    chain = str(fold)
    for step in range(num_steps):
        chain = hashlib.sha256(f"{chain}/{step}".encode()).hexdigest()
    return int(chain[:12], 16) / 16**12


@dataclass(frozen=True)
class SentSweep:
    """A sweep that was submitted."""

    cluster: SlurmCluster
    output: Path
    jobs: tuple[str, ...]
    """Ids of its arrays, in order, and of the merge job, where there is one."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further variables of the person who submitted it."""

    def task(self, index: int = 0) -> str:
        return f"{self.jobs[0]}_{index}"

    def run(self, fold: int = 0) -> Path:
        return self.output / "steady" / f"fold{fold}"

    def diary(self, fold: int = 0) -> list[str]:
        path = self.run(fold) / "diary.txt"
        return path.read_text().splitlines() if path.exists() else []

    def log(self, index: int = 0) -> str:
        logs = self.output.glob(f"submissions/*/logs/array-1-{self.jobs[0]}_{index}.log")
        return "".join(path.read_text() for path in logs)

    def result(self, fold: int = 0) -> dict[str, Any]:
        return json.loads((self.run(fold) / "result.json").read_text())

    def attempt(self, fold: int = 0, number: int = 1) -> dict[str, Any]:
        path = self.run(fold) / "attempts" / f"{number:04}" / "attempt.json"
        return json.loads(path.read_text())

    def status(self) -> dict[str, dict[str, Any]]:
        """What `replicate status` tells of each run."""
        told = replicate(
            *("status", self.output, "--json"),
            cwd=self.output.parent,
            env={**self.cluster.environment, **self.variables},
        )
        assert told.returncode == 0, told.stderr
        return {run["run_id"]: run for run in json.loads(told.stdout)["runs"]}

    def wait_result(self, fold: int = 0, patience_s: float = 200) -> None:
        def so_far() -> str:
            states = [self.cluster.states(job) for job in self.jobs]
            return f"the result of fold {fold}: {states}, {self.diary(fold)}\n{self.log()}"

        wait_for((self.run(fold) / "result.json").exists, so_far, patience_s)

    def wait_step(self, fold: int = 0) -> None:
        """Wait until the run has made a step."""
        stdout = self.run(fold) / "attempts" / "0001" / "stdout.log"
        wait_for(lambda: stdout.exists() and "step 2" in stdout.read_text(), self.log, 120)

    def wait_end(self) -> None:
        """Wait until SLURM has none of the jobs any more."""
        ended = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
        wait_for(
            lambda: all(set(self.cluster.states(job).values()) <= ended for job in self.jobs),
            lambda: f"the ends of {[self.cluster.states(job) for job in self.jobs]}",
            200,
        )


def submit(
    cluster: SlurmCluster,
    folder: Path,
    *words: object,
    study: str = STEADY,
    output: str = "out",
    env: Mapping[str, str] | None = None,
) -> SentSweep:
    """Submit `study` (its text, or the name of a built-in one) from `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    named = study
    if "\n" in study:
        (folder / "study.yaml").write_text(study)
        named = "study.yaml"
    sent = replicate(
        *("submit", "--slurm", "--study", named, "--output-dir", output, "--json", *words),
        cwd=folder,
        env={**cluster.environment, **(env or {})},
    )
    assert sent.returncode == 0, sent.stderr
    document = json.loads(sent.stdout)
    jobs = [array["job_id"] for array in document["arrays"]]
    jobs += [document["merge"]["job_id"]] if document["merge"] else []
    return SentSweep(cluster=cluster, output=folder / output, jobs=tuple(jobs), variables=env or {})
