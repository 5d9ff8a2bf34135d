"""Small sweeps of commands, for tests of the executor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from merge.records.config_hash import config_hash
from merge.records.sweep import Axis, Resources, Run, Sweep
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths

LEAVE_RESULT = (
    """printf '{"metrics": {"score": %s}}' "$1" > "$PAPERGRID_ATTEMPT_DIR/result.json"\n"""
)
"""A shell line that leaves its first argument as the result."""


def shell(script: str) -> tuple[str, ...]:
    """A command that runs `script` in sh, with the run's fold as $1."""
    return ("sh", "-c", script, "sh", "{fold}")


def make_sweep(
    command: Sequence[str] | None = None,
    *,
    folds: int = 1,
    experiment: str | None = None,
    config: Mapping[str, Any] | None = None,
    commands: Sequence[Sequence[str]] | None = None,
    free_keys: Sequence[str] = (),
    **resources: Any,
) -> Sweep:
    """A sweep with one axis `fold`; every run has `command`, or its own of `commands`."""
    each = list(commands) if commands else [command] * folds
    runs = []
    for fold, one in enumerate(each):
        words = tuple(one) if one else None
        values = {"fold": fold, **(config or {})}
        runs.append(
            Run(
                run_id=f"run-fold{fold}",
                path=f"run/fold{fold}",
                cell="run",
                axes={"fold": fold},
                config=values,
                config_hash=config_hash(
                    {key: value for key, value in values.items() if key not in free_keys},
                    experiment=experiment,
                    command=words,
                ),
                experiment=experiment,
                command=words,
                resources=Resources(**resources),
            )
        )
    return Sweep(
        study="test",
        title="",
        axes=(Axis(name="fold", values=tuple(range(len(each)))),),
        average_over="fold",
        metric="score",
        goal="max",
        settings={},
        runs=tuple(runs),
        code={"source": "test"},
        free_keys=tuple(free_keys),
    )


def write_sweep(output: Path, sweep: Sweep) -> Path:
    """Freeze `sweep` into `output`, for an executor in another process; returns `output`."""
    write_json(SweepPaths(output).sweep, sweep.to_json())
    return output
