"""The schedulers that a cancellation is handed on to, beside the request in the run's folder.

The request alone stops what runs: any executor sees it within a heartbeat. A reacher also takes
jobs out of a queue, in which no executor of ours looks at anything yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Reacher(Protocol):
    """`cancel_jobs(output, run_ids)`: cancels what it has of these runs, and tells it, a line each.

    A run that it knows nothing of is none of its business. PapergridError where it cannot tell.
    """

    def __call__(self, output: Path, run_ids: Sequence[str], /) -> list[str]: ...


def reachers() -> tuple[Reacher, ...]:
    """All that there are; each is imported here, inside of the function, when it is needed."""
    from orchestrator import servers, slurm_sent

    def slurm(output: Path, run_ids: Sequence[str], /) -> list[str]:
        tasks = slurm_sent.cancel_jobs(output, run_ids)
        return [f"SLURM task {task}: cancelled" for task in tasks]

    return (slurm, servers.cancel_jobs)


def cancel_everywhere(output: Path, run_ids: Sequence[str]) -> list[str]:
    """What every reacher has to tell of its cancelling `run_ids`."""
    return [line for reach in reachers() for line in reach(output, run_ids)]
