"""Which files of an output folder travel, in which order, and which of them a person wants."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from merge.records.sweep import Run, Sweep
from merge.storage.atomic import TEMPORARY_SUFFIX
from merge.storage.paths import SweepPaths

_STAYS = re.compile(r"(claim|request)-\d{4,}\.json")
"""Claims and requests are between the processes that share a folder; see docs/s3.md."""


class Part(StrEnum):
    """The two passes of a sync."""

    RESULTS = "results"
    """Plan, specifications, attempts, logs, panels and results."""
    CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files travel. Names are matched as a whole, with `/`; `*` matches that too."""

    parts: frozenset[Part] = frozenset(Part)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, name: str, run: Run) -> bool:
        """Whether the file `name` of `run` travels."""
        if part_of(name, run) not in self.parts:
            return False
        included = not self.include or any(fnmatchcase(name, glob) for glob in self.include)
        return included and not any(fnmatchcase(name, glob) for glob in self.exclude)


@dataclass(frozen=True, slots=True)
class RunNames:
    """How the files of a run are called below the output folder and in a bucket alike."""

    run: Run

    @property
    def folder(self) -> str:
        return f"{self.run.path}/"

    @property
    def checkpoints(self) -> str:
        return f"{SweepPaths(Path()).run(self.run.path).checkpoints.as_posix()}/"

    @property
    def result(self) -> str:
        return SweepPaths(Path()).run(self.run.path).result.as_posix()

    def is_aside(self, name: str) -> bool:
        return fnmatchcase(name.removeprefix(self.folder), "result.aside-*.json")

    def aside(self, token: str) -> str:
        return SweepPaths(Path()).run(self.run.path).result_aside(token).as_posix()


def part_of(name: str, run: Run) -> Part:
    """The pass that the file `name` of `run` belongs to."""
    is_checkpoint = name.startswith(RunNames(run).checkpoints)
    return Part.CHECKPOINTS if is_checkpoint else Part.RESULTS


def travels(name: str) -> bool:
    """Whether a file of this name ever leaves its folder: no claims, no temporary files."""
    parts = name.split("/")
    return not (
        any(part.startswith(".") or part == "" for part in parts)
        or parts[-1].endswith(TEMPORARY_SUFFIX)
        or _STAYS.fullmatch(parts[-1])
    )


def in_order(names: list[str], run: Run) -> list[str]:
    """Checkpoints first, the result last: a visible result implies its files."""
    result = RunNames(run).result
    return sorted(names, key=lambda n: (n == result, part_of(n, run) is Part.RESULTS, n))


def local_names(output: Path, run: Run) -> list[str]:
    """The names of all files of `run` that are there and may travel, sorted."""
    root = SweepPaths(output).run(run.path).root
    return sorted(name for name in _walk(output, root) if travels(name))


def owner_of(name: str, by_path: dict[str, Run]) -> Run | None:
    """The run whose folder the file `name` lies in; None where it is in none."""
    folder = name
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        if run := by_path.get(folder):
            return run
    return None


def runs_by_path(sweep: Sweep) -> dict[str, Run]:
    return {run.path: run for run in sweep.runs}


def _walk(output: Path, root: Path) -> Iterator[str]:
    for folder, _, files in os.walk(root):
        for file in files:
            path = Path(folder, file)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(output).as_posix()
