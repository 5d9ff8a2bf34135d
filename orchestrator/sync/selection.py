"""Which files of an output folder are synced, in which order, and which a person selects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from merge.records.sweep import Run, Sweep
from merge.storage.atomic import TEMPORARY_SUFFIX
from merge.storage.paths import RunPaths, SweepPaths, is_claim_or_request


class Part(StrEnum):
    """The two passes of a sync."""

    RESULTS = "results"
    """Plan, specifications, attempts, logs, panels and results."""
    CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files are synced. Globs match whole names below the output folder; `*` matches `/`."""

    parts: frozenset[Part] = frozenset(Part)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def includes(self, name: str, run: Run) -> bool:
        """Whether the file `name` of `run` is selected."""
        if part_of(name, run) not in self.parts:
            return False
        included = not self.include or any(fnmatchcase(name, glob) for glob in self.include)
        return included and not any(fnmatchcase(name, glob) for glob in self.exclude)


@dataclass(frozen=True, slots=True)
class RunNames:
    """The names of a run's files: the same below the output folder and in a bucket."""

    run: Run

    @property
    def folder(self) -> str:
        """The common start of all names, with a slash at its end."""
        return f"{self.run.path}/"

    @property
    def checkpoints(self) -> str:
        """The common start of the names of all checkpoints."""
        return f"{SweepPaths(Path()).run(self.run.path).checkpoints.as_posix()}/"

    @property
    def result(self) -> str:
        """The name of the run's one result."""
        return SweepPaths(Path()).run(self.run.path).result.as_posix()

    def is_aside(self, name: str) -> bool:
        """Whether `name` is a second result of the run."""
        return RunPaths.is_result_aside(name.removeprefix(self.folder))

    def aside(self, token: str) -> str:
        """The name of a second result, from the attempt with this claim token."""
        return SweepPaths(Path()).run(self.run.path).result_aside(token).as_posix()


def part_of(name: str, run: Run) -> Part:
    """The pass that the file `name` of `run` belongs to."""
    is_checkpoint = name.startswith(RunNames(run).checkpoints)
    return Part.CHECKPOINTS if is_checkpoint else Part.RESULTS


def is_synced(name: str) -> bool:
    """Whether a file of this name is ever synced: no claims, no hidden or temporary files.

    Also what keeps a hostile object name (`../x`) out of the file system.
    """
    parts = name.split("/")
    return not (
        any(part.startswith(".") or part == "" for part in parts)
        or parts[-1].endswith(TEMPORARY_SUFFIX)
        # They are for processes that share a folder. The claims of a bucket are objects of the same
        # name, so a synced file would also overwrite them.
        or is_claim_or_request(parts[-1])
    )


def transfer_order(names: list[str], run: Run) -> list[str]:
    """Checkpoints first, the result last: a visible result implies its files."""
    result = RunNames(run).result
    return sorted(names, key=lambda n: (n == result, part_of(n, run) is Part.RESULTS, n))


def run_of_name(name: str, by_path: dict[str, Run]) -> Run | None:
    """The run whose folder holds the file `name`; None where it belongs to no run."""
    folder = name
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        if run := by_path.get(folder):
            return run
    return None


def runs_by_path(sweep: Sweep) -> dict[str, Run]:
    """The runs of a plan, by their folder below the output folder."""
    return {run.path: run for run in sweep.runs}
