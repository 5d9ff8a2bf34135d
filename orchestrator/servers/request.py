"""What `submit --servers` asks of each server, and the script that starts a worker there. Pure.

`--dry-run`, `--print-commands` and the real submission all read the same request.
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
from orchestrator.servers.ssh import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one server is given."""

    server: Server
    runs: tuple[Run, ...]
    shards: tuple[str, ...]
    """Names of its shards; empty where all servers share all runs by claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRequest:
    """A submission to servers."""

    name: str
    """Of the submission: a folder of the output folder."""
    output: Path
    """As it is here; absolute."""
    workdir: Path
    """Where commands are started, as it is here; absolute."""
    fleet: Fleet
    parts: tuple[Part, ...]
    words: tuple[str, ...] = ()
    """Further words for `replicate work`."""
    snapshot: str | None = None
    claims: BucketTarget | None = None
    """Where servers that have an output folder each share the runs; None: they share the folder."""

    @property
    def paths(self) -> SubmissionPaths:
        """As they are here."""
        return SweepPaths(self.output).submission(self.name)

    def paths_on(self, server: Server) -> SubmissionPaths:
        """As they are on `server`."""
        return SweepPaths(self.output_on(server)).submission(self.name)

    def output_on(self, server: Server) -> Path:
        return Path(server.output) if server.output else self.output

    def reach(self, server: Server) -> Reach:
        return Reach(
            destination=server.ssh,
            config=self.fleet.ssh_config,
            connect_timeout_s=self.fleet.connect_timeout_s,
        )

    def to_json(self) -> dict[str, Any]:
        """What the submission's record tells; values of environment variables stay out of it."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "kind": "servers",
            "snapshot": self.snapshot,
            "claims": str(self.claims.url) if self.claims else None,
            "ssh_config": str(self.fleet.ssh_config) if self.fleet.ssh_config else None,
            "connect_timeout_s": self.fleet.connect_timeout_s,
            "servers": [
                {
                    "name": part.server.name,
                    "ssh": part.server.ssh,
                    "output": str(self.output_on(part.server)),
                    "num_runs": len(part.runs),
                    "shards": list(part.shards),
                }
                for part in self.parts
            ],
        }


def share_out(servers: Sequence[Server], shards: Sequence[Shard], *, by_shard: bool) -> list[Part]:
    """What each server is given: all runs, or by shards, the largest first to the least laden."""
    if not by_shard:
        runs = tuple(run for shard in shards for run in shard.runs)
        return [Part(server=server, runs=runs, shards=()) for server in servers]
    given: dict[str, list[Shard]] = {server.name: [] for server in servers}
    for shard in sorted(shards, key=lambda shard: -len(shard.runs)):
        least = min(given.values(), key=lambda mine: sum(len(each.runs) for each in mine))
        least.append(shard)
    parts = [
        Part(
            server=server,
            runs=tuple(run for shard in given[server.name] for run in shard.runs),
            shards=tuple(shard.name for shard in given[server.name]),
        )
        for server in servers
    ]
    return [part for part in parts if part.runs]
