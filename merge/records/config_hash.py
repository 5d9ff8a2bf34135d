"""The hash of a configuration: what is trained and with which values, in 16 hex digits. Pure.

A plan records the hash of each run, and results carry it. It is computed again where a plan is
read for training or merging: a plan that was changed by hand must not pass for the one it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from merge.storage.json_files import Json, canonical_json

if TYPE_CHECKING:
    from merge.records.manifest import Manifest
    from merge.records.sweep import Run, Sweep

MICRO_BATCH = "micro_batch"
REPAIR = (
    "the plan was changed by hand or is damaged: restore it, or move it away and run the command "
    "that made it again; results of the same configuration still count"
)


def config_hash(
    config: Mapping[str, Json],
    *,
    experiment: str | None,
    command: tuple[str, ...] | None,
    checkpoint: str | None = None,
) -> str:
    """16 hex digits that name a configuration.

    Independent of key order; infrastructure (devices, folders, workers) is not in a configuration,
    and keys on which no number depends are left out of `config`. `checkpoint` is the identity of
    what an evaluation evaluates; None for a training.
    """
    # Existing results carry this hash: another key here would make all of them results of another
    # configuration.
    identity: dict[str, Json] = {
        "config": dict(config),
        "experiment": experiment,
        "command": list(command) if command else None,
    }
    if checkpoint is not None:
        identity["checkpoint"] = checkpoint
    return sha256(canonical_json(identity)).hexdigest()[:16]


def free_keys_of(
    config: Mapping[str, Any], free_keys: tuple[str, ...], manifest: Manifest
) -> tuple[str, ...]:
    """Those of `free_keys` on which no number of a run with `config` depends.

    Batch norm takes its statistics from what is computed at a time, so where it is trained a
    micro-batch decides the number. 0 is a rank's whole share, as if there were no such option.
    """
    if MICRO_BATCH in free_keys and config.get(MICRO_BATCH) and manifest.has_batch_norm(config):
        return tuple(key for key in free_keys if key != MICRO_BATCH)
    return free_keys


def hash_of_run(run: Run, free_keys: tuple[str, ...]) -> str:
    """The hash of what `run` is, whatever hash it carries."""
    config = {key: value for key, value in run.config.items() if key not in free_keys}
    checkpoint = None if run.checkpoint is None else run.checkpoint.identity
    return config_hash(
        config, experiment=run.experiment, command=run.command, checkpoint=checkpoint
    )


def hash_problem(run: Run, sweep: Sweep) -> str:
    """What is wrong with `run` as its plan has it; empty where its hash is of its configuration."""
    found = hash_of_run(run, sweep.free_keys_of(run.config))
    if found != run.config_hash:
        return (
            f"the plan recorded the hash {run.config_hash} for {run.run_id}, but its configuration "
            f"or command there now has {found}; {REPAIR}"
        )
    # An axis that differs from the configuration would put the number into another cell.
    for name, value in run.axes.items():
        if not _is_same(run.config.get(name), value):
            return f"axis {name} of {run.run_id} is not what its configuration has; {REPAIR}"
    return ""


def _is_same(one: object, other: object) -> bool:
    """Whether two values name one point of an axis: 1 and 1.0 do, 1 and true do not."""
    return one == other and isinstance(one, bool) is isinstance(other, bool)
