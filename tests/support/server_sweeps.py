"""Small sweeps for servers: quick commands, held up on the hosts that a test names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.storage.json_files import read_json
from merge.storage.paths import SweepPaths
from orchestrator.servers.workers import Worker, read_workers
from support.commands import replicate
from support.executors import wait_until
from support.ssh_hosts import SshHosts

PATIENCE_S = 150.0

STUDY = """\
name: grid
command: [sh, train.sh, "{lr}", "{seed}"]
axes:
  lr: [1, 2, 3, 4]
  seed: [0, 1, 2, 3]
average_over: seed
metric: score
cell: "lr{lr}"
run_path: "{cell}/seed{seed}"
"""

TRAIN = """\
host=$(hostname)
if [ -e "$HOLD/$host" ]; then
  : > "$HOLD/$host.held"
  while [ -e "$HOLD/$host" ]; do sleep 0.05; done
fi
printf '{"metrics": {"score": %s%s}, "details": {"host": "%s"}}' "$1" "$2" "$host" \
  > "$PAPERGRID_ATTEMPT_DIR/result.json"
"""
"""A run's score is 10 lr + seed. While HOLD/<host> exists, runs on that host wait."""


@dataclass(frozen=True)
class ServerSweep:
    """A study, an output folder and a hosts file in `folder`, for the hosts `ssh`."""

    folder: Path
    ssh: SshHosts

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def hold(self) -> Path:
        return self.folder / "hold"

    def prepare(self, study: str = STUDY, **hosts: Mapping[str, Any]) -> ServerSweep:
        """Write the study and a hosts file with these hosts, or with all that there are."""
        self.hold.mkdir(parents=True)
        (self.folder / "study.yaml").write_text(study)
        (self.folder / "train.sh").write_text(TRAIN)
        self.write_hosts(**(hosts or {name: {} for name in self.ssh.hosts}))
        return self

    def write_hosts(self, **hosts: Mapping[str, Any]) -> None:
        document = {
            "ssh_config": str(self.ssh.ssh_config),
            "connect_timeout_s": 5,
            "share_timeout_s": 2,
            "min_free_gb": 0.01,
            "defaults": {
                "devices": "cpu:1",
                "environment": {"HOLD": str(self.hold)},
                "cache_dir": str(self.folder / "cache"),
            },
            "hosts": hosts,
        }
        (self.folder / "hosts.yaml").write_text(json.dumps(document))

    def host_names(self) -> list[str]:
        return list(json.loads((self.folder / "hosts.yaml").read_text())["hosts"])

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        return replicate(*self.submit_words(*words), cwd=self.folder)

    def submit_words(self, *words: str) -> tuple[str, ...]:
        fixed = ("--study", "study.yaml", "--output-dir", "out", "--servers", "hosts.yaml")
        return ("submit", *fixed, *words)

    def status(self, *words: str) -> dict[str, Any]:
        done = replicate("status", "out", "--json", *words, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def worker(self, name: str) -> Worker:
        return next(each for each in read_workers(self.output) if each.name == name)

    def results(self) -> dict[str, dict[str, Any]]:
        """Every result by its run's folder."""
        paths = sorted(self.output.glob("lr*/seed*/result.json"))
        return {str(path.parent.relative_to(self.output)): read_json(path) for path in paths}

    def wait_for_hold(self, *names: str) -> None:
        wait_until(
            lambda: all((self.hold / f"{name}.held").exists() for name in names),
            f"runs held up on {names}: {self.logs()}",
            PATIENCE_S,
        )

    def wait_for_results(self, number: int) -> None:
        wait_until(
            lambda: len(self.results()) >= number, f"{number} results: {self.logs()}", PATIENCE_S
        )

    def wait_for_ends(self, *names: str) -> None:
        """Wait until the workers of these servers say that they have ended."""

        def have_ended() -> bool:
            records = [self.worker(name).record for name in names]
            return all(record and record.ended is not None for record in records)

        wait_until(have_ended, f"the end of the workers: {self.logs()}", PATIENCE_S)

    def logs(self) -> str:
        logs = SweepPaths(self.output).submissions.glob("*/logs/*.log")
        return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in logs)

    def signal_worker(self, name: str, number: signal.Signals) -> None:
        """Signal the worker process of a host, from outside."""
        os.kill(self.worker_pid(name), number)

    def worker_pid(self, name: str) -> int:
        """The id, as seen from outside, of a host's worker."""
        pids = [pid for pid in self.ssh[name].pids() if b"\0--worker-record\0" in _command(pid)]
        assert len(pids) == 1, f"workers of {name}: {pids}"
        return pids[0]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
