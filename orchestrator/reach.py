"""The schedulers that a cancellation is handed on to, beside the request in the run's folder.

The request alone stops what runs: any executor sees it within a heartbeat. A reacher also takes
jobs out of a queue, in which no executor of ours looks at anything yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from merge.errors import PapergridError, SchedulerError


class Reacher(Protocol):
    """`cancel_jobs(output, run_ids)`: cancels what it has of these runs, and tells it, a line each.

    A run that it knows nothing of is none of its business. PapergridError where it cannot tell.
    """

    def __call__(self, output: Path, run_ids: Sequence[str], /) -> list[str]: ...


def reachers() -> tuple[Reacher, ...]:
    """All that there are; each is imported here, inside of the function, when it is needed."""
    from orchestrator import server_workers, slurm_sent

    def slurm(output: Path, run_ids: Sequence[str], /) -> list[str]:
        tasks = slurm_sent.cancel_jobs(output, run_ids)
        return [f"SLURM task {task}: cancelled" for task in tasks]

    return (slurm, server_workers.cancel_jobs)


def cancel_everywhere(
    output: Path, run_ids: Sequence[str], ways: Sequence[Reacher] | None = None
) -> list[str]:
    """What every reacher (of `ways`, else all there are) has to tell of its cancelling `run_ids`.

    SchedulerError, after all were asked, where one of them cannot tell.
    """
    told: list[str] = []
    problems: list[str] = []
    for reach in reachers() if ways is None else ways:
        try:
            told += reach(output, run_ids)
        except PapergridError as error:
            problems.append(str(error))
    if problems:
        raise SchedulerError(
            "\n".join(
                [
                    "the runs are marked as cancelled and none of them starts any more, but not "
                    "everything that was sent could be reached; give the same command again:",
                    *problems,
                    *told,
                ]
            )
        )
    return told
