"""Small sweeps and results for tests of merging and tables, built without a study file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from merge.records.config_hash import config_hash
from merge.records.manifest import default_manifest
from merge.records.metrics import PERCENT
from merge.records.result import Result
from merge.records.sweep import Axis, Run, Sweep
from merge.results.entries import Entry
from merge.results.entries import entry_of as entry_by_manifest
from merge.storage.json_files import write_json, write_json_exclusive
from merge.storage.paths import SweepPaths


def make_grid(
    *,
    cells: Sequence[str] = ("pascal5i_resnet50_1shot",),
    folds: Sequence[int] = (0, 1, 2, 3),
    metric: str = "miou",
    published: Mapping[str, object] | None = None,
    epochs: int = 1,
) -> Sweep:
    """A sweep with one axis `cell` and the averaged axis `fold`."""
    runs = []
    for cell in cells:
        for fold in folds:
            config = {"cell": cell, "fold": fold, "epochs": epochs}
            runs.append(
                Run(
                    run_id=f"{cell}-fold{fold}",
                    path=f"{cell}/fold{fold}",
                    cell=cell,
                    axes={"cell": cell, "fold": fold},
                    config=config,
                    config_hash=config_hash(config, experiment="fewshot", command=None),
                    experiment="fewshot",
                )
            )
    return Sweep(
        study="test",
        title="",
        axes=(Axis(name="cell", values=tuple(cells)), Axis(name="fold", values=tuple(folds))),
        average_over="fold",
        metric=metric,
        goal="max",
        settings={},
        runs=tuple(runs),
        code={},
        published=published or {},
    )


def entry_of(result: Result) -> Entry:
    """What a merged view keeps of `result`, as the grids here have it kept."""
    return entry_by_manifest(result, default_manifest("miou", "max", PERCENT))


def make_result(run: Run, miou: float, **fields: object) -> Result:
    """A result of `run`; `fields` override any of its fields."""
    values: dict[str, object] = {
        "run_id": run.run_id,
        "config_hash": run.config_hash,
        "axes": dict(run.axes),
        "metrics": {"miou": miou},
        "attempt": 1,
        "token": f"token-of-{run.run_id}",
        "started": 100.0,
        "finished": 200.0,
        **fields,
    }
    return Result(**values)


def write_sweep(output: Path, sweep: Sweep) -> SweepPaths:
    """Write the plan of `sweep` into `output`."""
    paths = SweepPaths(output)
    write_json_exclusive(paths.sweep, sweep.to_json())
    return paths


def write_result(output: Path, run: Run, miou: float, **fields: object) -> Path:
    """Write the result of `run` into its folder below `output`."""
    path = SweepPaths(output).run(run.path).result
    write_json(path, make_result(run, miou, **fields).to_json())
    return path
