"""What a job requests from SLURM: from the study, a cluster profile and flags.

Later layers override earlier ones; set-up lines and further sbatch options add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from merge.errors import UsageError

SIGNAL_S = 90
"""Default: how many seconds before its time limit a job gets SIGUSR2."""
GRACE_MARGIN_S = 20
"""Seconds between the end of the trainers' grace period and the time limit, for the requeue."""
DEFAULT_GRACE_S = float(SIGNAL_S - GRACE_MARGIN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmRequest:
    """Options of sbatch; None leaves the cluster's default."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = None
    constraint: str | None = None
    time: str | int | None = None
    """Time limit in the format of sbatch; a number is in minutes."""
    mem: str | int | None = None
    """Memory of a node in the format of sbatch; a number is in MiB."""
    cpus_per_task: int | None = None
    max_parallel: int | None = None
    """Tasks that run at the same time, in all arrays together."""
    signal_s: int = SIGNAL_S
    """Seconds before its time limit at which a job gets SIGUSR2."""
    setup: tuple[str, ...] = ()
    """Shell lines before the command: the only place where a person writes shell text."""
    python: str | None = None
    """Python of the environment with papergrid on the nodes; None: the one that submits."""
    raise_on_retry: Mapping[str, float] = field(default_factory=dict)
    """`mem`, `time` -> by which factor a run's next task gets more, where it had too little."""
    sbatch: Mapping[str, Any] = field(default_factory=dict)
    """Further long options of sbatch."""

    @property
    def grace_s(self) -> int:
        """Seconds that a trainer has for its checkpoint when its task must stop."""
        return max(5, self.signal_s - GRACE_MARGIN_S)


def combine_layers(layers: Iterable[Mapping[str, Any]]) -> SlurmRequest:
    """The request of `layers`, weakest first; each has the keys of `SlurmShape`."""
    values: dict[str, Any] = {"setup": (), "sbatch": {}}
    for layer in layers:
        given = dict(layer)
        values["setup"] += tuple(given.pop("setup", ()))
        values["sbatch"] = {**values["sbatch"], **given.pop("sbatch", {})}
        values.update(given)
    return SlurmRequest(**values)


def check_flags(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flags (`cpus_per_task`: value) as a layer, without None. UsageError with all problems."""
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
