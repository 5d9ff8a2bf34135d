"""What this machine has for the runs of a sweep: GPUs, torch, ports, disk, data, SLURM."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from merge.records.sweep import Run, read_sweep
from merge.storage.paths import SweepPaths
from merge.wording import size_text
from orchestrator.doctor.check import Check, Verdict
from orchestrator.machine.devices import list_gpus
from orchestrator.plan.disk_need import DiskNeed, estimate_disk

_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
nccl = ".".join(map(str, torch.cuda.nccl.version())) if cuda else None
print(json.dumps({"torch": torch.__version__, "cuda": cuda, "nccl": nccl,
                  "gloo": torch.distributed.is_available()}))
"""
_TORCH_PATIENCE_S = 120.0
_SLURM_PATIENCE_S = 15.0
_NUM_PORTS = 16
_LITTLE_BYTES = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a sweep needs of a machine."""

    output: Path
    runs: Sequence[Run] = ()
    """The planned runs; empty where there is no plan yet."""
    disk: DiskNeed | None = None
    data_root: Path | None = None
    weights: Path | None = None


def needs_of(output: Path, *, data_root: Path | None = None, weights: Path | None = None) -> Needs:
    """The needs of the plan in `output`, if one is there. RecordError where it is unreadable."""
    plan = SweepPaths(output).sweep
    runs = read_sweep(plan).runs if plan.exists() else ()
    disk = estimate_disk(output, runs)
    return Needs(output=output, runs=runs, disk=disk, data_root=data_root, weights=weights)


def examine_machine(needs: Needs) -> list[Check]:
    """Look at everything; changes nothing."""
    return [
        check_gpus(needs),
        check_torch(needs),
        check_ports(),
        check_disk(needs),
        *check_paths(needs),
        check_slurm(),
    ]


def check_gpus(needs: Needs) -> Check:
    """Whether nvidia-smi lists GPUs; refused where a run must have some."""
    gpus, reason = list_gpus()
    numbers = {"gpus": len(gpus)}
    must = [run.run_id for run in needs.runs if run.resources.device == "cuda"]
    if gpus:
        names = ", ".join(gpu.name for gpu in gpus)
        return Check("GPUs", "ok", f"{len(gpus)}: {names}", numbers=numbers)
    if must:
        fix = f"{len(must)} runs need one (device: cuda), such as {must[0]}"
        return Check("GPUs", "refused", f"none: {reason}", fix, numbers)
    fix = "runs use CPU slots here; for GPUs make nvidia-smi work"
    return Check("GPUs", "warning", f"none: {reason}", fix, numbers)


def check_torch(needs: Needs) -> Check:
    """Whether the trainers' torch can be imported, and with it NCCL where there is CUDA."""
    # In a process of its own: the control plane never imports torch.
    answer, trouble = _ask([sys.executable, "-P", "-c", _TORCH], _TORCH_PATIENCE_S)
    if trouble:
        is_needed = any(run.experiment for run in needs.runs)
        fix = "install the training part: pip install 'papergrid[train]'"
        finding = f"cannot be imported: {trouble}"
        return Check("torch", "refused" if is_needed else "warning", finding, fix)
    found = json.loads(answer.splitlines()[-1])
    backend = f"CUDA with NCCL {found['nccl']}" if found["cuda"] else "no CUDA, gloo for ranks"
    return Check("torch", "ok", f"{found['torch']}, {backend}", numbers=found)


def check_ports() -> Check:
    """Whether the ranks of a run can open ports."""
    try:
        with ExitStack() as stack:
            for _ in range(_NUM_PORTS):
                one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                one.bind(("127.0.0.1", 0))
                one.listen()
    except OSError as error:
        fix = "end the processes that hold them (ss -tln), or let this user open sockets"
        return Check("ports", "refused", f"no free port on 127.0.0.1: {error.strerror}", fix)
    return Check("ports", "ok", f"{_NUM_PORTS} can be opened on 127.0.0.1")


def check_disk(needs: Needs) -> Check:
    """Free space in the output folder against what the open runs are expected to write."""
    there = next(one for one in (needs.output, *needs.output.absolute().parents) if one.is_dir())
    free, need = shutil.disk_usage(there).free, needs.disk
    finding, numbers = f"{size_text(free)} free", {"free_bytes": free}
    if need is None:
        finding += "; what a run writes is not known yet"
        verdict: Verdict = "warning" if free < _LITTLE_BYTES else "ok"
        return Check("disk space", verdict, finding, "free some space", numbers)
    finding += (
        f", {need.num_runs} open runs need about {size_text(need.total_bytes)} ({need.source})"
    )
    numbers |= {"needed_bytes": need.total_bytes, "open_runs": need.num_runs}
    verdict = "ok" if free > need.total_bytes else "refused"
    return Check("disk space", verdict, finding, "free some space, or select fewer runs", numbers)


def check_paths(needs: Needs) -> list[Check]:
    """Whether the given data and weights can be read here."""
    named = (("data root", "--data-root", needs.data_root), ("weights", "--weights", needs.weights))
    return [_check_path(name, flag, path) for name, flag, path in named if path is not None]


def _check_path(name: str, flag: str, path: Path) -> Check:
    try:
        if path.is_dir():
            return Check(name, "ok", f"{path}: {len(list(path.iterdir()))} entries")
        path.open("rb").close()
        return Check(name, "ok", f"{path}: {size_text(path.stat().st_size)}")
    except OSError as error:
        fix = f"correct {flag}, mount it on this host, or make it readable"
        return Check(name, "refused", f"{path} cannot be read: {error.strerror}", fix)


def check_slurm() -> Check:
    """Whether SLURM is installed, and its controller answers."""
    if shutil.which("sbatch") is None or shutil.which("squeue") is None:
        return Check("SLURM", "ok", "no sbatch and squeue here")
    # For a user without jobs, so that the answer of a large cluster is short.
    _, trouble = _ask(["squeue", "--noheader", "--user", "nobody"], _SLURM_PATIENCE_S)
    if trouble:
        fix = "nothing can be submitted until the controller answers: ask its administrator"
        return Check("SLURM", "warning", f"squeue failed: {trouble}", fix)
    return Check("SLURM", "ok", "sbatch is here, squeue answers")


def _ask(words: Sequence[str], patience_s: float) -> tuple[str, str]:
    """What a command prints, and what is wrong where it fails or takes too long."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=patience_s, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer in {patience_s:.0f} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return "", lines[-1] if lines else f"exit status {done.returncode}, without a message"
    return done.stdout, ""
