"""What this machine has for the runs of a sweep: GPUs, torch, ports, memory, disk, data, SLURM."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from merge.errors import PapergridError
from merge.records.sweep import Run, read_sweep
from merge.storage.paths import SweepPaths
from merge.wording import size_text
from orchestrator.doctor.check import Check, Found, Verdict, attempt
from orchestrator.machine.devices import list_gpus
from orchestrator.machine.own_modules import training_install
from orchestrator.machine.shared_memory import (
    MORE_ROOM,
    SHARED_MEMORY,
    free_shared_memory,
    loader_processes,
    shortage,
)
from orchestrator.machine.slurm_environment import command_environment
from orchestrator.plan.disk_need import DiskNeed, estimate_disk

_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
nccl = ".".join(map(str, torch.cuda.nccl.version())) if cuda else None
print(json.dumps({"torch": torch.__version__, "cuda": cuda, "nccl": nccl,
                  "gloo": torch.distributed.is_available()}))
"""
_TORCH_TIMEOUT_S = 120.0
_SLURM_TIMEOUT_S = 15.0
_NUM_PORTS = 16
_LITTLE_BYTES = 1e9


def examine_machine(
    output: Path, *, data_root: Path | None = None, weights: Path | None = None
) -> list[Check]:
    """Compare this machine with what the plan in `output` needs, if one is there; changes nothing.

    RecordError where the plan is unreadable.
    """
    plan = SweepPaths(output).sweep
    runs = read_sweep(plan).runs if plan.exists() else ()
    return [
        check_gpus(runs),
        check_torch(runs),
        check_ports(),
        check_shared_memory(runs),
        check_disk(output, estimate_disk(output, runs)),
        *([check_path("data root", "--data-root", data_root)] if data_root else []),
        *([check_path("weights", "--weights", weights)] if weights else []),
        check_slurm(),
    ]


def check_gpus(runs: Sequence[Run]) -> Check:
    """Whether nvidia-smi lists GPUs; refused where a run must have some."""
    gpus, reason = list_gpus()
    must = [run.run_id for run in runs if run.resources.device == "cuda"]
    verdict: Verdict = "ok" if gpus else "refused" if must else "warning"
    finding = f"{len(gpus)}: {', '.join(gpu.name for gpu in gpus)}" if gpus else f"none: {reason}"
    fix = "runs use CPU slots here; for GPUs make nvidia-smi work"
    if must:
        fix = f"{len(must)} runs need one (device: cuda), such as {must[0]}"
    return Check("GPUs", verdict, finding, fix, {"gpus": len(gpus)})


def check_torch(runs: Sequence[Run]) -> Check:
    """Whether the trainers' torch can be imported, and with it NCCL where there is CUDA."""
    is_needed = any(run.experiment for run in runs)
    fix = f"install what trainings need: {training_install(sys.executable)}"
    problem: Verdict = "refused" if is_needed else "warning"
    return attempt("torch", _torch, "cannot be imported", fix, problem)


def _torch() -> Found:
    # In a process of its own: the control plane never imports torch.
    output = _output_of([sys.executable, "-P", "-c", _TORCH], _TORCH_TIMEOUT_S)
    found = json.loads(output.splitlines()[-1])
    backend = f"CUDA with NCCL {found['nccl']}" if found["cuda"] else "no CUDA, gloo for ranks"
    return f"{found['torch']}, {backend}", found


def check_ports() -> Check:
    """Whether the ranks of a run can open ports."""
    fix = "end the processes that hold them (ss -tln), or let this user open sockets"
    return attempt("ports", _open_ports, "no free port on 127.0.0.1", fix)


def _open_ports() -> Found:
    with ExitStack() as stack:
        for _ in range(_NUM_PORTS):
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return f"{_NUM_PORTS} can be opened on 127.0.0.1", {}


def check_shared_memory(runs: Sequence[Run], place: Path = SHARED_MEMORY) -> Check:
    """Free space of /dev/shm against the loader processes of the largest run."""
    name, num_loaders = "shared memory", loader_processes(runs)
    problem: Verdict = "refused" if num_loaders else "warning"
    try:
        free = free_shared_memory(place)
    except OSError as error:
        return Check(name, problem, f"{place} cannot be used ({error.strerror})", MORE_ROOM)
    numbers = {"free_bytes": free, "loaders": num_loaders}
    if short := shortage(free, num_loaders):
        return Check(name, problem, short, MORE_ROOM, numbers)
    # Without a plan only what every container that was started without a flag has is remarked.
    verdict: Verdict = "warning" if not runs and free < _LITTLE_BYTES else "ok"
    return Check(name, verdict, f"{size_text(free)} free in {place}", MORE_ROOM, numbers)


def check_disk(output: Path, need: DiskNeed | None) -> Check:
    """Free space in the output folder against what the open runs are expected to write."""
    there = next(one for one in (output, *output.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(there).free
    numbers = {"free_bytes": free}
    if need is None:
        verdict: Verdict = "warning" if free < _LITTLE_BYTES else "ok"
        finding = f"{size_text(free)} free; what a run writes is not known yet"
        return Check("disk space", verdict, finding, "free some space", numbers)
    numbers |= {"needed_bytes": need.total_bytes, "open_runs": need.num_runs}
    verdict = "ok" if free > need.total_bytes else "refused"
    needed = f"{need.num_runs} open runs need about {size_text(need.total_bytes)} ({need.source})"
    fix = "free some space, or select fewer runs"
    return Check("disk space", verdict, f"{size_text(free)} free, {needed}", fix, numbers)


def check_path(name: str, flag: str, path: Path) -> Check:
    """Whether the data or weights given by `flag` can be read here."""
    fix = f"correct {flag}, mount it on this host, or make it readable"
    return attempt(name, lambda: _read(path), f"{path} cannot be read", fix)


def _read(path: Path) -> Found:
    if path.is_dir():
        return f"{path}: {len(list(path.iterdir()))} entries", {}
    path.open("rb").close()
    return f"{path}: {size_text(path.stat().st_size)}", {}


def check_slurm() -> Check:
    """Whether SLURM is installed, and its controller answers."""
    fix = "nothing can be submitted until the controller answers: ask its administrator"
    return attempt("SLURM", _ask_slurm, "squeue failed", fix, "warning")


def _ask_slurm() -> Found:
    if shutil.which("sbatch") is None or shutil.which("squeue") is None:
        return "no sbatch and squeue here", {}
    # For a user without jobs, so that the answer of a large cluster is short.
    words = ["squeue", "--noheader", "--user", "nobody"]
    _output_of(words, _SLURM_TIMEOUT_S, command_environment(os.environ))
    return "sbatch is here, squeue answers", {}


def _output_of(
    words: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None
) -> str:
    """What a command prints. PapergridError where it fails or takes too long."""
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=timeout_s, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise PapergridError(f"no answer in {timeout_s:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        raise PapergridError(lines[-1] if lines else f"exit code {error.returncode}") from error
    return done.stdout
