"""What the control plane costs a run: no-op commands by the local executor, against bare ones.

    python benchmarks/control_cost.py [--runs 200] [--budget-ms 10] [--folder DIR]

The floor is the same command started by a bare subprocess, in the same invocation and in turns with
the executor, so that both see the same machine. Exit code 1 where the budget is exceeded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from merge.records.config_hash import config_hash
from merge.records.sweep import Axis, Run, Sweep
from orchestrator.local.events import RunEvent
from orchestrator.local.executor import LocalSettings, run_local
from orchestrator.machine.devices import Devices

NO_OP = (
    "sh",
    "-c",
    """printf '{"metrics": {"score": 1.0}}' > "$PAPERGRID_ATTEMPT_DIR/result.json\"""",
)
_ROUNDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200, help="no-op runs in all (%(default)s)")
    parser.add_argument("--budget-ms", type=float, default=10.0, help="a run (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to write (default: temporary)")
    arguments = parser.parse_args()
    num_runs = max(1, arguments.runs // _ROUNDS)
    floors, sweeps = [], []
    for number in range(_ROUNDS):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            floors.append(_floor_ms(Path(folder) / "floor", num_runs))
            sweeps.append(_executor_ms(Path(folder) / f"sweep{number}", num_runs))
    floor, sweep = statistics.median(floors), statistics.median(sweeps)
    cost = sweep - floor
    print(f"bare subprocess   {floor:7.2f} ms a run")
    print(f"local executor    {sweep:7.2f} ms a run  ({sweep / floor:.1f}x)")
    print(f"control cost      {cost:7.2f} ms a run  (budget {arguments.budget_ms:g} ms)")
    return 0 if cost <= arguments.budget_ms else 1


def _floor_ms(folder: Path, num_runs: int) -> float:
    folder.mkdir()
    environment = {**os.environ, "PAPERGRID_ATTEMPT_DIR": str(folder)}
    began = time.perf_counter()
    for _ in range(num_runs):
        subprocess.run(NO_OP, env=environment, check=True)
    return 1000 * (time.perf_counter() - began) / num_runs


def _executor_ms(folder: Path, num_runs: int) -> float:
    sweep = _sweep(num_runs)
    settings = LocalSettings(
        devices=Devices(kind="cpu", slots=("cpu0",)), cache_dir=folder, cwd=Path.cwd()
    )
    began = time.perf_counter()
    report = run_local(sweep, sweep.runs, folder, settings, _ignore)
    seconds = time.perf_counter() - began
    assert report.exit_code == 0, "every no-op run is done"
    return 1000 * seconds / num_runs


def _sweep(num_runs: int) -> Sweep:
    runs = tuple(
        Run(
            run_id=f"run{number}",
            path=f"run{number}",
            cell="run",
            axes={"fold": number},
            config={"fold": number},
            config_hash=config_hash({"fold": number}, experiment=None, command=NO_OP),
            command=NO_OP,
        )
        for number in range(num_runs)
    )
    return Sweep(
        study="control-cost",
        title="",
        axes=(Axis(name="fold", values=tuple(range(num_runs))),),
        average_over="fold",
        metric="score",
        goal="max",
        settings={},
        runs=runs,
        code={},
    )


def _ignore(event: RunEvent) -> None:
    """A benchmark shows no progress."""


if __name__ == "__main__":
    sys.exit(main())
