"""A submission to servers: which server gets which runs. Pure.

`--dry-run`, `--print-commands` and the real submission all use the same request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.records.sweep import SCHEMA, Run
from merge.storage.control_paths import SubmissionPaths
from merge.storage.paths import SweepPaths
from orchestrator.plan.shards import Shard
from orchestrator.s3.url import BucketTarget
from orchestrator.servers.hosts_file import Fleet, Server
from orchestrator.servers.ssh import SshTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAssignment:
    """The runs of one server."""

    server: Server
    runs: tuple[Run, ...]
    shards: tuple[str, ...]
    """Names of its shards; empty where all servers share all runs through claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRequest:
    """A submission to servers."""

    name: str
    """Id of the submission, and name of its folder."""
    output: Path
    """Path on this machine; absolute."""
    workdir: Path
    """Folder in which commands start, on this machine; absolute."""
    fleet: Fleet
    assignments: tuple[ServerAssignment, ...]
    words: tuple[str, ...] = ()
    """Further arguments of `replicate work`."""
    snapshot: str | None = None
    claims: BucketTarget | None = None
    """Bucket with the claims, where each server has an output folder of its own; None: all servers
    share one."""

    code_files: tuple[str, ...] | None = None
    """What the study names as code, seen from the folder in which commands start."""
    to_check: frozenset[str] = frozenset()
    """Ids of the runs for which servers look for packages, weights and data."""

    @property
    def paths(self) -> SubmissionPaths:
        """Paths on this machine."""
        return SweepPaths(self.output).submission(self.name)

    def paths_on(self, server: Server) -> SubmissionPaths:
        """Paths on `server`."""
        return SweepPaths(self.output_on(server)).submission(self.name)

    def output_on(self, server: Server) -> Path:
        """The output folder, as `server` sees it."""
        return Path(server.output) if server.output else self.output

    def ssh_target(self, server: Server) -> SshTarget:
        """How ssh connects to `server`."""
        return SshTarget(
            destination=server.ssh,
            config=self.fleet.ssh_config,
            connect_timeout_s=self.fleet.connect_timeout_s,
        )

    def to_json(self) -> dict[str, Any]:
        """`submission.json`; without values of environment variables, which may be secrets."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "kind": "servers",
            "snapshot": self.snapshot,
            "claims": str(self.claims.url) if self.claims else None,
            "ssh_config": str(self.fleet.ssh_config) if self.fleet.ssh_config else None,
            "connect_timeout_s": self.fleet.connect_timeout_s,
            "servers": [self._assignment_json(each) for each in self.assignments],
        }

    def _assignment_json(self, assignment: ServerAssignment) -> dict[str, Any]:
        return {
            "name": assignment.server.name,
            "ssh": assignment.server.ssh,
            "output": str(self.output_on(assignment.server)),
            "num_runs": len(assignment.runs),
            "shards": list(assignment.shards),
        }


def assign_runs(
    servers: Sequence[Server], shards: Sequence[Shard], *, by_shard: bool
) -> list[ServerAssignment]:
    """All runs for every server, or by shards: the largest first, to the server with fewest runs.

    With `by_shard`, servers that get no shard are left out.
    """
    if not by_shard:
        runs = tuple(run for shard in shards for run in shard.runs)
        return [ServerAssignment(server=server, runs=runs, shards=()) for server in servers]
    shards_of: dict[str, list[Shard]] = {server.name: [] for server in servers}
    for shard in sorted(shards, key=lambda shard: -len(shard.runs)):
        min(shards_of.values(), key=_num_runs).append(shard)
    assignments = (_assignment(server, shards_of[server.name]) for server in servers)
    return [each for each in assignments if each.runs]


def _num_runs(shards: Sequence[Shard]) -> int:
    return sum(len(shard.runs) for shard in shards)


def _assignment(server: Server, shards: Sequence[Shard]) -> ServerAssignment:
    return ServerAssignment(
        server=server,
        runs=tuple(run for shard in shards for run in shard.runs),
        shards=tuple(shard.name for shard in shards),
    )
