"""What the control plane costs a person who waits: help, status, merge.

    python benchmarks/control_plane.py

Each command runs as a whole process beside a bare `python -c pass`, in turns; medians. Exits 1 when
a budget is passed. Compiled modules are cached in a temporary folder, as an installed package has
them: without a cache, compiling alone costs a third of the shortest commands.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.records.config_hash import config_hash
from merge.records.result import Result
from merge.records.sweep import Axis, Run, Sweep
from merge.storage.json_files import canonical_json
from merge.storage.paths import SweepPaths

_TURNS = 7


@dataclass(frozen=True, slots=True)
class Case:
    """A command and what it may cost."""

    name: str
    words: tuple[str, ...]
    budget_s: float
    is_above_floor: bool = False
    """Whether the budget is counted above a bare interpreter's start."""


def main() -> int:
    """Measure all cases; 0 where every budget is kept."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        make_finished_sweep(small, num_cells=8)
        make_finished_sweep(large, num_cells=2500)
        cases = [
            Case("replicate --help", ("--help",), 0.030, is_above_floor=True),
            Case("status, 32 runs", ("status", str(small)), 0.100),
            Case("status, 10,000 runs", ("status", str(large)), 0.5),
            Case("merge, 10,000 results", ("merge", str(large)), 0.5),
            Case("status, 10,000 merged", ("status", str(large)), 0.5),
        ]
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(folder) / "pycache")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return max([_measure(case, environment) for case in cases])


def make_finished_sweep(output: Path, *, num_cells: int) -> None:
    """An output folder in which all runs of `num_cells` cells x 4 folds are done."""
    runs = tuple(_run(f"cell{cell}", fold) for cell in range(num_cells) for fold in range(4))
    sweep = Sweep(
        study="benchmark",
        title="",
        axes=(
            Axis(name="cell", values=tuple(f"cell{cell}" for cell in range(num_cells))),
            Axis(name="fold", values=(0, 1, 2, 3)),
        ),
        average_over="fold",
        metric="miou",
        goal="max",
        settings={},
        runs=runs,
        code={},
    )
    paths = SweepPaths(output)
    output.mkdir(parents=True)
    # Plain writes: the benchmark measures readers, and 10,000 fsyncs would take minutes.
    paths.sweep.write_bytes(canonical_json(sweep.to_json()))
    for number, run in enumerate(runs):
        folder = paths.run(run.path)
        folder.root.mkdir(parents=True)
        folder.result.write_bytes(canonical_json(_result(run, number).to_json()))


def _run(cell: str, fold: int) -> Run:
    config = {"cell": cell, "fold": fold, **{f"option{i}": i for i in range(40)}}
    return Run(
        run_id=f"{cell}-fold{fold}",
        path=f"{cell}/fold{fold}",
        cell=cell,
        axes={"cell": cell, "fold": fold},
        config=config,
        config_hash=config_hash(config, experiment="fewshot", command=None),
        experiment="fewshot",
    )


def _result(run: Run, number: int) -> Result:
    counts = {name: list(range(100_000, 100_020)) for name in ("intersection", "union")}
    return Result(
        run_id=run.run_id,
        config_hash=run.config_hash,
        axes=run.axes,
        metrics={"miou": (number % 997) / 1000, "fb_iou": 0.5},
        attempt=1,
        token=f"{number:032x}",
        started=0.0,
        finished=1.0,
        details={"final": counts, "best": counts},
    )


def _measure(case: Case, environment: dict[str, str]) -> int:
    own, floor = [], []
    command = [sys.executable, "-m", "replicate.cli.main", *case.words]
    _seconds(command, environment)
    for _ in range(_TURNS):
        floor.append(_seconds([sys.executable, "-c", "pass"], environment))
        own.append(_seconds(command, environment))
    cost, bare = statistics.median(own), statistics.median(floor)
    counted = cost - bare if case.is_above_floor else cost
    verdict = "kept" if counted <= case.budget_s else "EXCEEDED"
    above = " above the floor" if case.is_above_floor else ""
    print(
        f"{case.name:<24} {1000 * cost:8.0f} ms  {cost / bare:6.1f} x bare python "
        f"({1000 * bare:.0f} ms)  budget {1000 * case.budget_s:.0f} ms{above}: {verdict}"
    )
    return 0 if verdict == "kept" else 1


def _seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        command,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
