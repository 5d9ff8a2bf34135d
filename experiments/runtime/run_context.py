"""What a trainer reads at its start: the environment of the run contract and the run's run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from merge.errors import RecordError, UsageError
from merge.records.checkpoints import Checkpoint, checkpoint_from_json
from merge.records.sweep import SCHEMA, DeviceKind
from merge.storage.json_files import read_json
from merge.storage.paths import AttemptPaths, RunPaths

_REQUIRED = (
    "PAPERGRID_RUN_DIR",
    "PAPERGRID_RUN_SPEC",
    "PAPERGRID_ATTEMPT_DIR",
    "PAPERGRID_DEVICE",
    "PAPERGRID_CACHE_DIR",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """One attempt at one run, as the run contract describes it."""

    run: RunPaths
    attempt: AttemptPaths
    run_id: str
    config: Mapping[str, Any]
    config_hash: str
    device_kind: DeviceKind
    cache_dir: Path
    data_root: Path | None
    weights: Path | None
    num_workers: int
    """Loader processes per rank."""
    micro_batch: int | None = None
    """Items that a rank computes at a time, where the executor overrides the configuration."""
    metric: str | None = None
    """The metric that the study shows; None where the spec was written by hand without one."""
    checkpoint: Checkpoint | None = None
    """What is evaluated instead of a training."""
    path: str = ""
    """The run's folder below the output folder; only evaluations need it."""

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard files; one for all attempts, so that a curve goes on."""
        return self.run.tensorboard

    @property
    def checkpoint_path(self) -> Path:
        """The file that is evaluated."""
        assert self.checkpoint is not None
        output = self.run.root
        for _ in PurePosixPath(self.path).parts:
            output = output.parent
        return self.checkpoint.path(output)

    @property
    def panels(self) -> Path:
        """Folder of the pictures that an experiment draws."""
        return self.run.panels


def read_context(environment: Mapping[str, str]) -> RunContext:
    """The run that `environment` describes.

    UsageError: variables of the contract are missing or wrong. RecordError: run.json is no spec.
    """
    missing = [name for name in _REQUIRED if not environment.get(name)]
    if missing:
        raise UsageError(
            f"{', '.join(missing)} not set: a trainer is started by `replicate`, or by hand with "
            "the environment of the run contract (PAPERGRID_RUN_DIR, PAPERGRID_RUN_SPEC = path of "
            "run.json, PAPERGRID_ATTEMPT_DIR, PAPERGRID_DEVICE = cuda or cpu, PAPERGRID_CACHE_DIR)"
        )
    spec = _read_spec(Path(environment["PAPERGRID_RUN_SPEC"]))
    return RunContext(
        run=RunPaths(Path(environment["PAPERGRID_RUN_DIR"])),
        attempt=AttemptPaths(Path(environment["PAPERGRID_ATTEMPT_DIR"])),
        run_id=spec["run_id"],
        config=spec["config"],
        config_hash=spec["config_hash"],
        device_kind=_read_device(environment["PAPERGRID_DEVICE"]),
        cache_dir=Path(environment["PAPERGRID_CACHE_DIR"]),
        data_root=_optional_path(environment, "PAPERGRID_DATA_ROOT"),
        weights=_optional_path(environment, "PAPERGRID_WEIGHTS"),
        num_workers=_read_num_workers(environment.get("PAPERGRID_NUM_WORKERS") or "0"),
        micro_batch=_read_micro_batch(environment.get("PAPERGRID_MICRO_BATCH")),
        metric=spec.get("metric"),
        checkpoint=_read_checkpoint(spec),
        path=str(spec.get("path", "")),
    )


def _read_checkpoint(spec: Mapping[str, Any]) -> Checkpoint | None:
    try:
        return checkpoint_from_json(spec.get("checkpoint"))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"run.json is no run spec: {error}") from error


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = read_json(path)
    except FileNotFoundError as error:
        raise UsageError(f"PAPERGRID_RUN_SPEC names {path}, which does not exist") from error
    if spec.get("schema") != SCHEMA:
        raise RecordError(f"{path} has schema {spec.get('schema')!r}; this version reads {SCHEMA}")
    for key, kind in (("run_id", str), ("config", dict), ("config_hash", str)):
        if not isinstance(spec.get(key), kind):
            raise RecordError(f"{path} is no run spec: {key!r} is missing or no {kind.__name__}")
    return spec


def _read_device(text: str) -> DeviceKind:
    if text == "cuda":
        return "cuda"
    if text == "cpu":
        return "cpu"
    raise UsageError(f"PAPERGRID_DEVICE is {text!r}: it must be cuda or cpu")


def _read_num_workers(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"PAPERGRID_NUM_WORKERS is {text!r}: it must be 0 or a positive number")
    return int(text)


def _read_micro_batch(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"PAPERGRID_MICRO_BATCH is {text!r}: it must be a positive number")
    return int(text)


def _optional_path(environment: Mapping[str, str], name: str) -> Path | None:
    text = environment.get(name)
    return Path(text) if text else None
