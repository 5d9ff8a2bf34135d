"""Finishes every STEPth run of the sweep in OUTPUT from START on, and merges after each.

python drive_merging.py OUTPUT START STEP
"""

from __future__ import annotations

import sys
from pathlib import Path

from merge.records.sweep import read_sweep
from merge.results.view import rebuild
from merge.storage.paths import SweepPaths
from support.grids import write_result


def main(output: Path, start: int, step: int) -> None:
    for run in read_sweep(SweepPaths(output).sweep).runs[start::step]:
        write_result(output, run, 0.5)
        rebuild(output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
