"""The run contract: argument list and environment of a run's process. Pure; docs/run-contract.md.

Every trainer, ours or any `command:`, is started as built here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from merge.errors import UsageError
from merge.records.sweep import DeviceKind, Run
from merge.storage.paths import AttemptPaths, RunPaths
from orchestrator.config.templates import fill_placeholders
from orchestrator.config.values import ConfigValue, text_of
from orchestrator.machine.guard import EXECUTOR, TOKEN
from orchestrator.machine.own_modules import (
    import_variables,
    module_words,
    source_root,
)

_AGENT = (sys.executable, "-m", "torch.distributed.run")


_NOT_INHERITED = re.compile(
    r"PAPERGRID_(RUN_DIR|RUN_SPEC|ATTEMPT|ATTEMPT_DIR|CONFIG_.*|DEVICE|NUM_WORKERS|MICRO_BATCH)"
    r"|PAPERGRID_(CACHE_DIR|DATA_ROOT|WEIGHTS|TOKEN|EXECUTOR)"
    r"|TORCHELASTIC_.*|PET_.*|(GROUP_|LOCAL_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)"
)
"""Variables that describe the process in which the executor itself runs, such as another attempt or
a rank of torchrun: a run must not take them for its own. PET_* are flags of torchrun."""

_ONE_NODE = {
    # torchrun would give the ranks the host's name as the address of rank 0, and gloo would look up
    # the network that the name belongs to: where it is not found, each fails after minutes.
    "PET_LOCAL_ADDR": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
}
"""For ranks of one machine: no name has to be resolved, and no other network is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The resources of an attempt: folder, token, devices, and folders with data."""

    paths: RunPaths
    """Absolute."""
    number: int | None
    """Of the attempt; None where a person starts the process by hand."""
    token: str
    executor: str
    kind: DeviceKind
    devices: tuple[str, ...]
    """Entries of CUDA_VISIBLE_DEVICES; names of slots on a CPU."""
    port: int
    """A free TCP port, for a single process."""
    cwd: Path
    cache_dir: Path
    data_root: Path | None = None
    weights: Path | None = None
    spec: Path | None = None
    """The attempt's own run.json; None for the run's."""
    num_workers: int | None = None
    """Loader processes of a rank; None: as in the run's resources."""
    micro_batch: int | None = None
    """Items per forward pass of a rank; None: as planned."""
    source: Path | None = None
    """Folder of papergrid's packages, if the run uses a frozen copy of the code."""
    threads: int | None = None
    """Threads of a rank on a GPU; None: as many as the library finds cores."""
    nodes: int = 1
    """Nodes of the SLURM job; the run gets `devices` on each of them."""

    @property
    def attempt(self) -> AttemptPaths:
        """The folder of the attempt."""
        if self.number is None:
            return self.paths.attempt_by_hand
        return self.paths.attempt(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    has_agent: bool
    """Whether the command is torchrun's agent, with the ranks as its children."""
    stop_file: Path | None = None
    """File that tells ranks on several nodes to stop; None: they get a signal."""


def build_launch(run: Run, given: Assignment, inherited: Mapping[str, str]) -> Launch:
    """The process of `run` with the resources `given`, on top of the `inherited` environment.

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
                *_torchrun_on_nodes(run, given, inherited),
                *words,
            ),
            environment=environment,
            cwd=given.cwd,
            has_agent=False,
            stop_file=given.attempt.stop,
        )
    if num_ranks > 1:
        return Launch(
            argv=(*_torchrun(num_ranks, run), *words),
            environment=environment | _ONE_NODE,
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
        "attempt_dir": str(given.attempt.root),
    }
    return fill_placeholders(run.command, folders | dict(run.config))


def srun_words(nodes: int, inherited: Mapping[str, str]) -> tuple[str, ...]:
    """The srun command that starts one process on each of the `nodes` of this SLURM job."""
    # Since SLURM 22.05 srun ignores SLURM_CPUS_PER_TASK: it must be given again.
    cpus = inherited.get("SLURM_CPUS_PER_TASK")
    return (
        *("srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"),
        # --overlap: the task itself runs in a step that holds all CPUs and GPUs; without it this
        # step would wait for that one. --kill-on-bad-exit: without it a failed node leaves the
        # other nodes blocked in a collective operation until its time-out.
        *("--overlap", "--kill-on-bad-exit=1", "--unbuffered"),
        *((f"--cpus-per-task={cpus}",) if cpus else ()),
    )


def _torchrun(num_ranks: int, run: Run) -> tuple[str, ...]:
    return (*_AGENT, "--standalone", f"--nproc-per-node={num_ranks}", _kind(run))


def _torchrun_on_nodes(
    run: Run, given: Assignment, inherited: Mapping[str, str]
) -> tuple[str, ...]:
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
    environment = {k: v for k, v in inherited.items() if not _NOT_INHERITED.fullmatch(k)}
    environment |= _contract_variables(run, given)
    environment |= _config_variables(run)
    environment |= _device_variables(given, inherited)
    if run.command is None:
        environment |= import_variables(inherited, given.source or source_root())
    return environment


def _contract_variables(run: Run, given: Assignment) -> dict[str, str]:
    num_workers = run.resources.num_workers if given.num_workers is None else given.num_workers
    variables = {
        # Growing logs show that a trainer is alive: output must not wait in a buffer.
        "PYTHONUNBUFFERED": "1",
        "PAPERGRID_RUN_DIR": str(given.paths.root),
        "PAPERGRID_RUN_SPEC": str(given.spec or given.paths.spec),
        "PAPERGRID_ATTEMPT_DIR": str(given.attempt.root),
        "PAPERGRID_ATTEMPT": "0" if given.number is None else str(given.number),
        "PAPERGRID_DEVICE": given.kind,
        "PAPERGRID_CACHE_DIR": str(given.cache_dir),
        "PAPERGRID_NUM_WORKERS": str(num_workers),
        EXECUTOR: given.executor,
        TOKEN: given.token,
    }
    optional = {
        "PAPERGRID_DATA_ROOT": given.data_root,
        "PAPERGRID_WEIGHTS": given.weights,
        "PAPERGRID_MICRO_BATCH": given.micro_batch,
    }
    return variables | {name: str(value) for name, value in optional.items() if value is not None}


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
            # CUDA's default is fastest first; in PCI order its numbers are those of nvidia-smi.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            **_thread_variables(given, inherited),
        }
    # One thread per slot: torch would start a thread per core in each of the parallel runs.
    threads = inherited.get("OMP_NUM_THREADS", "1")
    return {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads}


def _thread_variables(given: Assignment, inherited: Mapping[str, str]) -> dict[str, str]:
    if given.threads is None or "OMP_NUM_THREADS" in inherited:
        return {}
    return {"OMP_NUM_THREADS": str(given.threads)}


def _single_process(port: int) -> dict[str, str]:
    return {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
