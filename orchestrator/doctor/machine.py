"""What this machine has for the runs of a sweep: GPUs, torch, ports, disk, data, SLURM."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.records.sweep import Run, read_sweep
from merge.storage.paths import SweepPaths
from orchestrator.doctor.check import Check
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
_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What is asked of a machine."""

    output: Path
    runs: Sequence[Run] = ()
    """The planned runs; empty where there is no plan yet."""
    disk: DiskNeed | None = None
    data_root: Path | None = None
    weights: Path | None = None

    @property
    def trains_with_torch(self) -> bool:
        return any(run.experiment for run in self.runs)


def needs_of(output: Path, *, data_root: Path | None = None, weights: Path | None = None) -> Needs:
    """What the plan in `output` asks for, if one is there. RecordError where it is unreadable."""
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
    if gpus:
        names = ", ".join(gpu.name for gpu in gpus)
        return Check(name="GPUs", verdict="ok", finding=f"{len(gpus)}: {names}", numbers=numbers)
    must = [run.run_id for run in needs.runs if run.resources.device == "cuda"]
    return Check(
        name="GPUs",
        verdict="refused" if must else "warning",
        finding=f"none: {reason}",
        fix=f"{len(must)} runs need one (device: cuda), such as {must[0]}"
        if must
        else "runs use CPU slots here; for GPUs make nvidia-smi work",
        numbers=numbers,
    )


def check_torch(needs: Needs) -> Check:
    """Whether the trainers' torch can be imported, and with it NCCL where there is CUDA."""
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _TORCH],
            capture_output=True,
            text=True,
            timeout=_TORCH_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _no_torch(needs, f"was not imported in {_TORCH_PATIENCE_S:.0f} s")
    if asked.returncode:
        return _no_torch(needs, f"cannot be imported: {_last_line(asked.stderr)}")
    found = json.loads(asked.stdout.splitlines()[-1])
    backend = f"CUDA with NCCL {found['nccl']}" if found["cuda"] else "no CUDA, gloo for ranks"
    return Check(
        name="torch", verdict="ok", finding=f"{found['torch']}, {backend}", numbers=dict(found)
    )


def _no_torch(needs: Needs, finding: str) -> Check:
    return Check(
        name="torch",
        verdict="refused" if needs.trains_with_torch else "warning",
        finding=finding,
        fix="install the training part: pip install 'papergrid[train]'",
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["without a word"])[-1]


def check_ports() -> Check:
    """Whether ranks can be given ports to meet at."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(_NUM_PORTS)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
            one.listen()
    except OSError as error:
        return Check(
            name="ports",
            verdict="refused",
            finding=f"no free port on 127.0.0.1: {error.strerror}",
            fix="end what holds them (ss -tln), or let this user open sockets",
        )
    finally:
        for one in sockets:
            one.close()
    return Check(name="ports", verdict="ok", finding=f"{_NUM_PORTS} can be opened on 127.0.0.1")


def check_disk(needs: Needs) -> Check:
    """Free space in the output folder against what the open runs are expected to write."""
    free = shutil.disk_usage(_nearest(needs.output)).free
    need = needs.disk
    if need is None:
        return Check(
            name="disk space",
            verdict="warning" if free < _GB else "ok",
            finding=f"{free / _GB:.1f} GB free; what a run writes is not known yet",
            fix="free some space" if free < _GB else "",
            numbers={"free_bytes": free},
        )
    is_enough = free > need.total_bytes
    return Check(
        name="disk space",
        verdict="ok" if is_enough else "refused",
        finding=f"{free / _GB:.1f} GB free, {need.num_runs} open runs want about "
        f"{need.total_bytes / _GB:.1f} GB ({need.source})",
        fix="" if is_enough else "free some space, or select fewer runs",
        numbers={"free_bytes": free, "needed_bytes": need.total_bytes, "open_runs": need.num_runs},
    )


def _nearest(folder: Path) -> Path:
    """The lowest folder above `folder` that is there, or itself."""
    return next(one for one in (folder, *folder.absolute().parents) if one.is_dir())


def check_paths(needs: Needs) -> list[Check]:
    """Whether the data and weights that were named can be read here."""
    named = (("data root", "--data-root", needs.data_root), ("weights", "--weights", needs.weights))
    return [_check_path(name, flag, path) for name, flag, path in named if path is not None]


def _check_path(name: str, flag: str, path: Path) -> Check:
    try:
        if path.is_dir():
            finding = f"{path}: {len(list(path.iterdir()))} entries"
        else:
            path.open("rb").close()
            finding = f"{path}: {path.stat().st_size / _GB:.2f} GB"
    except OSError as error:
        return Check(
            name=name,
            verdict="refused",
            finding=f"{path} cannot be read: {error.strerror}",
            fix=f"correct {flag}, mount it on this host, or make it readable",
        )
    return Check(name=name, verdict="ok", finding=finding)


def check_slurm() -> Check:
    """Whether a SLURM is here, and answers."""
    if shutil.which("sbatch") is None or shutil.which("squeue") is None:
        return Check(name="SLURM", verdict="ok", finding="no sbatch and squeue here")
    try:
        asked = subprocess.run(
            ["squeue", "--noheader", "--user", "nobody"],
            capture_output=True,
            text=True,
            timeout=_SLURM_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        trouble = f"squeue gave no answer in {_SLURM_PATIENCE_S:.0f} s"
    else:
        if asked.returncode == 0:
            return Check(name="SLURM", verdict="ok", finding="sbatch is here, squeue answers")
        trouble = f"squeue failed: {_last_line(asked.stderr)}"
    return Check(
        name="SLURM",
        verdict="warning",
        finding=trouble,
        fix="nothing can be submitted until the controller answers: ask its administrator",
    )
