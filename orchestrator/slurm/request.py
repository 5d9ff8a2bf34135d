"""What is asked of SLURM for a class of runs, from the study, a cluster profile and flags.

The later of these is the stronger; set-up lines and further sbatch options add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merge.errors import StudyError, UsageError

SIGNAL_S = 90
"""How long before the end of its time a job is told, where nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmRequest:
    """Options of sbatch; None leaves one to the cluster."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = None
    constraint: str | None = None
    time: str | int | None = None
    """As sbatch takes it; a number is in minutes."""
    mem: str | int | None = None
    """Of a node, as sbatch takes it; a number is in megabytes."""
    cpus_per_task: int | None = None
    max_parallel: int | None = None
    """Tasks at work at a time, all arrays together."""
    signal_s: int = SIGNAL_S
    """Seconds before the end of its time at which a job is told."""
    setup: tuple[str, ...] = ()
    """Shell lines before the command: the one place where a person writes shell text."""
    sbatch: Mapping[str, Any] = field(default_factory=dict)
    """Further long options of sbatch."""


def combine_layers(layers: Iterable[Mapping[str, Any]]) -> SlurmRequest:
    """The request of `layers`, weakest first; each is what a `SlurmShape` holds."""
    values: dict[str, Any] = {"setup": (), "sbatch": {}}
    for layer in layers:
        given = dict(layer)
        values["setup"] += tuple(given.pop("setup", ()))
        values["sbatch"] = {**values["sbatch"], **given.pop("sbatch", {})}
        values.update(given)
    return SlurmRequest(**values)


def read_profile(path: Path) -> dict[str, Any]:
    """A cluster profile: a YAML file with the keys of `resources: {slurm: ...}`.

    UsageError where it cannot be read, StudyError with all its problems.
    """
    from orchestrator.config.schema import fit
    from orchestrator.config.yaml_document import as_lines, read_document
    from orchestrator.studies.slurm_schema import SlurmShape

    document = read_document(path)
    shape, problems = fit(document, SlurmShape, document.data)
    problems = [*document.problems, *problems]
    if problems:
        raise StudyError(str(path), as_lines(problems))
    return shape.model_dump(exclude_none=True)


def check_flags(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flags (`cpus_per_task`: value) as a layer; None are left out. UsageError tells all."""
    from pydantic import ValidationError

    from orchestrator.studies.slurm_schema import SlurmShape

    try:
        shape = SlurmShape.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        lines = [_flag_problem(str(item["loc"][0]), item["msg"]) for item in error.errors()]
        raise UsageError("\n".join(lines)) from error
    return shape.model_dump(exclude_none=True)


def _flag_problem(key: str, message: str) -> str:
    return f"--{key.replace('_', '-')}: {message.removeprefix('Value error, ')}"
