"""The plan of an output folder, frozen: written once, then only ever compared.

Pure but for `freeze` and `existing_plan`. Resources, retries, title, published numbers and the
code's version may change under a plan; what decides numbers or where they lie may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merge.errors import ConfigChangedError
from merge.records.plan_diff import plan_differences, shortened
from merge.records.sweep import Sweep, read_sweep
from merge.storage.json_files import write_json_exclusive
from merge.storage.paths import SweepPaths
from orchestrator.config.values import text_of
from orchestrator.studies.grid import expand
from orchestrator.studies.study import Study


def make_sweep(study: Study, code: Mapping[str, Any]) -> Sweep:
    """The plan of `study`: all its runs, those of `also` values too, made by `code`."""
    return Sweep(
        study=study.name,
        title=study.title,
        axes=study.axes,
        average_over=study.average_over,
        metric=study.metric,
        goal=study.goal,
        settings={
            # Settings are a record for people: a list is kept as the text that --set takes.
            key: value if isinstance(value, str | int | float | bool) else text_of(value)
            for key, value in study.settings.items()
        },
        runs=expand(study),
        code=code,
        published=study.published,
        retries=study.retries,
        free_keys=study.free_keys,
        code_files=study.code_files,
        frozen_manifest=study.manifest,
    )


def freeze(output: Path, sweep: Sweep) -> Sweep:
    """Write `sweep` as the plan of `output`, or return the equal plan that is already there.

    ConfigChangedError, with the differences, where `output` holds another plan; RecordError where
    its plan cannot be read; StorageError where it cannot be written.
    """
    # Exclusively: of several servers that start at once, one writes the plan and the rest compare
    # theirs with it.
    existing = existing_plan(output, sweep)
    if existing or write_json_exclusive(SweepPaths(output).sweep, sweep.to_json()):
        return existing or sweep
    return _same_plan(output, sweep)


def existing_plan(output: Path, sweep: Sweep) -> Sweep | None:
    """The plan that `output` holds, equal to `sweep`; None where it holds none. Writes nothing.

    Errors are those of `freeze`.
    """
    try:
        return _same_plan(output, sweep)
    except FileNotFoundError:
        return None


def _same_plan(output: Path, sweep: Sweep) -> Sweep:
    path = SweepPaths(output).sweep
    existing = read_sweep(path)
    differences = plan_differences(existing, sweep)
    if differences:
        raise ConfigChangedError(_refusal(path, existing, differences))
    return existing


def _refusal(path: Path, existing: Sweep, differences: tuple[str, ...]) -> str:
    return "\n".join(
        [
            f"{path} holds another plan of study {existing.study!r}; planned -> requested now:",
            *(f"  {line}" for line in shortened(differences)),
            "Numbers of both would be mixed in one table: give another --output-dir, or undo the "
            "change.",
        ]
    )
