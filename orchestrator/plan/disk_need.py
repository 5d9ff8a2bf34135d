"""How much the open runs of a sweep are expected to write: measured on those that are done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.records.sweep import Run
from merge.storage.paths import SweepPaths

# Runs of a sweep write about the same; walking the folders of all 10,000 would take longer than the
# check is worth.
_SAMPLE = 20
_MARGIN = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskNeed:
    """An estimate, and where it is from."""

    num_runs: int
    total_bytes: int
    source: str


def estimate_disk(output: Path, runs: Sequence[Run]) -> DiskNeed | None:
    """What `runs` will still write below `output`; None where no run has files yet.

    The largest of the runs that are done stands for the open ones; with none done, the largest
    checkpoint folder of one that has begun.
    """
    paths = [SweepPaths(output).run(run.path) for run in runs]
    is_done = [one.has_result() for one in paths]
    open_folders = [one for one, done in zip(paths, is_done, strict=True) if not done]
    done_folders = [one for one, done in zip(paths, is_done, strict=True) if done][:_SAMPLE]
    sizes = [folder_bytes(one.root) for one in done_folders]
    source = f"as the largest of {len(sizes)} finished runs"
    if not sizes:
        sizes = [size for one in open_folders if (size := folder_bytes(one.checkpoints))]
        source = "as the checkpoints of a run that has begun"
    if not sizes:
        return None
    need = int(max(sizes) * len(open_folders) * _MARGIN)
    return DiskNeed(num_runs=len(open_folders), total_bytes=need, source=source)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`; 0 where it is not there."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).stat().st_size
            except FileNotFoundError:
                # A temporary file that was renamed since the listing.
                continue
    return total
