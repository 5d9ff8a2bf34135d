"""The run contract: argument list and environment of a run's process. Pure; docs/run-contract.md.

Every trainer, ours or any `command:`, is started as built here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from merge.errors import UsageError
from merge.records.sweep import Run
from merge.storage.paths import RunPaths
from orchestrator.config.templates import fill_placeholders
from orchestrator.config.values import ConfigValue, text_of
from orchestrator.machine.guard import EXECUTOR, TOKEN
from orchestrator.machine.own_modules import (
    import_variables,
    module_words,
    source_root,
)

DeviceKind = Literal["cuda", "cpu"]

_AGENT = (sys.executable, "-m", "torch.distributed.run")


_FOREIGN = re.compile(
    r"PAPERGRID_(RUN_DIR|RUN_SPEC|ATTEMPT|ATTEMPT_DIR|CONFIG_.*|DEVICE|NUM_WORKERS|MICRO_BATCH)"
    r"|PAPERGRID_(CACHE_DIR|DATA_ROOT|WEIGHTS|TOKEN|EXECUTOR)"
    r"|TORCHELASTIC_.*|(GROUP_|LOCAL_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)"
)
"""Variables that describe whoever started the executor: never handed on to a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What an attempt was given: its folder and token, devices, and where data lies."""

    paths: RunPaths
    """Absolute."""
    number: int
    token: str
    executor: str
    kind: DeviceKind
    devices: tuple[str, ...]
    """Names as CUDA_VISIBLE_DEVICES takes them; names of slots on a CPU."""
    port: int
    """A free TCP port, for a single process."""
    cwd: Path
    cache_dir: Path
    data_root: Path | None = None
    weights: Path | None = None
    spec: Path | None = None
    """The attempt's own run.json; None for the run's."""
    num_workers: int | None = None
    """Loader processes of a rank; None for what the run's resources say."""
    micro_batch: int | None = None
    """Of a rank, where it is not the planned one."""
    source: Path | None = None
    """What papergrid's packages are imported from, where it is a frozen copy."""
    nodes: int = 1
    """Nodes of a SLURM job, `devices` of each of which the run is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    has_agent: bool
    """Whether the command is torchrun's agent, with the ranks as its children."""
    stop_file: Path | None = None
    """Where ranks on several nodes look whether they are to stop; else they get a signal."""


def build_launch(run: Run, given: Assignment, inherited: Mapping[str, str]) -> Launch:
    """How to start `run` as `given`, on top of the `inherited` environment.

    One device, or `launcher: none`: a single process. Several: torchrun with a rank per device.
    UsageError where the command has a placeholder that the configuration does not fill.
    """
    num_ranks = len(given.devices) if run.resources.launcher == "torchrun" else 1
    words = _trainer_words(run, given)
    environment = _environment(run, given, inherited)
    if given.nodes > 1:
        return Launch(
            argv=(
                *srun_words(given.nodes, inherited),
                *_spread_torchrun(run, given, inherited),
                *words,
            ),
            environment=environment,
            cwd=given.cwd,
            has_agent=False,
            stop_file=given.paths.attempt(given.number).stop,
        )
    if num_ranks > 1:
        return Launch(
            argv=(*_torchrun(num_ranks, run), *words),
            environment=environment,
            cwd=given.cwd,
            has_agent=True,
        )
    return Launch(
        argv=(*(() if run.command else (sys.executable, "-m")), *words),
        environment=environment | _single_process(given.port),
        cwd=given.cwd,
        has_agent=False,
    )


def _trainer_words(run: Run, given: Assignment) -> tuple[str, ...]:
    if run.command is None:
        assert run.experiment is not None  # a run has one of the two
        return ("experiments.runtime", run.experiment)
    folders: dict[str, ConfigValue] = {
        "run_dir": str(given.paths.root),
        "run_spec": str(given.spec or given.paths.spec),
        "attempt_dir": str(given.paths.attempt(given.number).root),
    }
    return fill_placeholders(run.command, folders | dict(run.config))


def srun_words(nodes: int, inherited: Mapping[str, str]) -> tuple[str, ...]:
    """The words that start one process on each of the `nodes` of the SLURM job we are in."""
    cpus = inherited.get("SLURM_CPUS_PER_TASK")
    return (
        *("srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"),
        *("--overlap", "--kill-on-bad-exit=1", "--unbuffered"),
        *((f"--cpus-per-task={cpus}",) if cpus else ()),
    )


def _torchrun(num_ranks: int, run: Run) -> tuple[str, ...]:
    return (*_AGENT, "--standalone", f"--nproc-per-node={num_ranks}", _kind(run))


def _spread_torchrun(run: Run, given: Assignment, inherited: Mapping[str, str]) -> tuple[str, ...]:
    return (
        *module_words(
            sys.executable, given.source or source_root(), "orchestrator.slurm.node_launcher"
        ),
        *_AGENT,
        f"--nnodes={given.nodes}",
        f"--nproc-per-node={len(given.devices)}",
        "--rdzv-backend=c10d",
        f"--rdzv-id={given.token}",
        f"--rdzv-endpoint={inherited['SLURMD_NODENAME']}:{given.port}",
        _kind(run),
    )


def _kind(run: Run) -> str:
    return "--no-python" if run.command else "-m"


def _environment(run: Run, given: Assignment, inherited: Mapping[str, str]) -> dict[str, str]:
    attempt = given.paths.attempt(given.number).root
    environment = {key: value for key, value in inherited.items() if not _FOREIGN.fullmatch(key)}
    environment |= {
        # What a Python trainer prints is its sign of life: it must not wait in a buffer.
        "PYTHONUNBUFFERED": "1",
        "PAPERGRID_RUN_DIR": str(given.paths.root),
        "PAPERGRID_RUN_SPEC": str(given.spec or given.paths.spec),
        "PAPERGRID_ATTEMPT_DIR": str(attempt),
        "PAPERGRID_ATTEMPT": str(given.number),
        "PAPERGRID_DEVICE": given.kind,
        "PAPERGRID_CACHE_DIR": str(given.cache_dir),
        "PAPERGRID_NUM_WORKERS": str(
            run.resources.num_workers if given.num_workers is None else given.num_workers
        ),
        EXECUTOR: given.executor,
        TOKEN: given.token,
    }
    if given.data_root:
        environment["PAPERGRID_DATA_ROOT"] = str(given.data_root)
    if given.weights:
        environment["PAPERGRID_WEIGHTS"] = str(given.weights)
    if given.micro_batch is not None:
        environment["PAPERGRID_MICRO_BATCH"] = str(given.micro_batch)
    environment |= _config_variables(run)
    environment |= _device_variables(given, inherited)
    if run.command is None:
        environment |= import_variables(inherited, given.source or source_root())
    return environment


def _config_variables(run: Run) -> dict[str, str]:
    variables: dict[str, str] = {}
    for key, value in run.config.items():
        if isinstance(value, list | dict | tuple):
            continue
        name = "PAPERGRID_CONFIG_" + re.sub(r"\W", "_", key).upper()
        if name in variables:
            raise UsageError(
                f"two keys of {run.run_id}'s configuration become {name}: rename {key!r}"
            )
        variables[name] = text_of(value)
    return variables


def _device_variables(given: Assignment, inherited: Mapping[str, str]) -> dict[str, str]:
    if given.kind == "cuda":
        return {
            "CUDA_VISIBLE_DEVICES": ",".join(given.devices),
            # Numbers are then those of nvidia-smi, as the person who gave them reads them.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }
    threads = inherited.get("OMP_NUM_THREADS", "1")
    return {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads}


def _single_process(port: int) -> dict[str, str]:
    return {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
