"""What a person may ask of SLURM: `resources: {slurm: ...}`, a profile file, or flags."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

from orchestrator.config.schema import Shape

_TIME = re.compile(r"[0-9]+(:[0-9]{2}){0,2}|[0-9]+-[0-9]+(:[0-9]{2}){0,2}|UNLIMITED|INFINITE")
_MEMORY = re.compile(r"[0-9]+([KMGT]B?)?")
_OPTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OWNED = {
    "array": "papergrid numbers the tasks itself; limit them with max_parallel",
    "clusters": "submit on a host of that cluster, which SLURM_CONF names",
    "chdir": "jobs start in the folder in which they are submitted",
    "dependency": "papergrid chains its jobs itself",
    "error": "logs lie in the submission's folder",
    "job-name": "jobs are named after the study",
    "nodes": "give it as `resources: {nodes: N}` or --nodes",
    "no-requeue": "a pre-empted job must come back",
    "ntasks": "a node has one task, which starts the ranks",
    "ntasks-per-node": "a node has one task, which starts the ranks",
    "output": "logs lie in the submission's folder",
    "parsable": "papergrid reads what sbatch prints",
    "requeue": "jobs are always requeued",
    "signal": "give the seconds as signal_s",
    "test-only": "--dry-run shows what would be sent",
    "wait": "submit returns at once",
    "wrap": "papergrid ships its own command line",
}
"""Options of sbatch that are not for a person to set, and what stands in for them."""

SbatchValue = str | int | float | bool


def check_text(value: SbatchValue) -> SbatchValue:
    """ValueError where `value` is nothing, or more than one line: it would end an #SBATCH line."""
    text = str(value)
    if not text.strip():
        raise ValueError("is empty")
    if not text.isprintable():
        raise ValueError(f"{text!r} holds a line break or another character that is not printed")
    return value


def check_value(value: SbatchValue) -> SbatchValue:
    """The same for what stands in an #SBATCH line, where sbatch leaves backslashes out."""
    if "\\" in str(check_text(value)):
        raise ValueError(f"{value!r} holds a backslash, which sbatch would leave out")
    return value


def _matching(pattern: re.Pattern[str], example: str) -> Callable[[str | int], str | int]:
    def check(value: str | int) -> str | int:
        if not pattern.fullmatch(str(value)):
            raise ValueError(f"{value!r} is not of SLURM's form, such as {example}")
        return value

    return check


def _check_program(value: str) -> str:
    check_text(value)
    if value.startswith(("-", "~")):
        raise ValueError(f"{value!r} is not a program: write its path from /, or its name")
    return value


def _check_options(options: dict[str, SbatchValue]) -> dict[str, SbatchValue]:
    for name, value in options.items():
        if name in _OWNED:
            raise ValueError(f"{name} cannot be set here: {_OWNED[name]}")
        if name.replace("-", "_") in SlurmShape.model_fields:
            raise ValueError(f"{name} has a key of its own: write it beside `sbatch:`")
        if not _OPTION.fullmatch(name):
            raise ValueError(f"{name!r} is no long option of sbatch, such as reservation")
        check_value(value)
    return options


Line = Annotated[str, AfterValidator(check_text)]
Text = Annotated[str, AfterValidator(check_value)]
Time = Annotated[str | int, AfterValidator(_matching(_TIME, "90 (minutes), 4:00:00 or 1-12"))]
Memory = Annotated[str | int, AfterValidator(_matching(_MEMORY, "32G or 4000 (megabytes)"))]
Count = Annotated[int, Field(ge=1)]
Program = Annotated[str, AfterValidator(_check_program)]
Factor = Annotated[float, Field(gt=1, le=16, strict=False)]


class RaiseShape(Shape):
    """By which factor a run's next task gets more of what its last one had too little of."""

    mem: Factor | None = None
    time: Factor | None = None


class SlurmShape(Shape):
    """All keys of a request. What is left out takes the cluster's defaults."""

    partition: Text | None = None
    account: Text | None = None
    qos: Text | None = None
    gres: Text | None = None
    constraint: Text | None = None
    time: Time | None = None
    mem: Memory | None = None
    cpus_per_task: Count | None = None
    max_parallel: Count | None = None
    signal_s: Annotated[int, Field(ge=10)] | None = None
    setup: list[Line] | None = None
    python: Program | None = None
    raise_on_retry: RaiseShape | None = None
    sbatch: Annotated[dict[str, SbatchValue], AfterValidator(_check_options)] | None = None
