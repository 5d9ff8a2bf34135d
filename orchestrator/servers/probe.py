"""What a server says of itself: run there as `python -m orchestrator.servers.probe QUESTION`.

The question is a JSON argument, the answer one JSON line behind the question's mark. Standard
library and light modules only, so that a host is asked in a fraction of a second.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from merge.errors import PapergridError, RecordError
from merge.records.records import read_worker
from merge.records.sweep import Resources, Run
from merge.storage.atomic import write_atomic
from merge.storage.nfs import fresh_names
from merge.storage.paths import SweepPaths
from orchestrator.machine.devices import Devices, find_devices
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.s3.url import BucketTarget, target_from_json

PACKAGES = ("torch", "torchvision", "timm", "numpy")
"""Whose versions may move numbers."""

_SOURCE = Path(__file__).resolve().parent.parent.parent
_CONTROL_PLANE = ("replicate", "orchestrator", "merge")
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a server is asked. Paths are as the server sees them."""

    mark: str
    output: str
    probe: str
    """A folder below `output`, or an object in the bucket, that was made for this check."""
    nonce: str
    """What the file `here` in it, or that object, holds."""
    server: str
    command: list[str] | None
    needs: list[dict[str, Any]]
    """Resources of the runs, each once."""
    devices: str | None
    allow_busy: bool
    data_root: str | None
    cache_dir: str | None
    weights: str | None
    min_free_gb: float
    share_timeout_s: int
    claims: dict[str, Any] | None = None
    """The `BucketTarget` that stands for a shared output folder, where one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a server answers. `problems` are reasons not to start there."""

    problems: list[str]
    host: str
    boot_id: str
    now: float
    """Unix time there."""
    version: str | None
    control: str
    """Digest of papergrid's own control plane."""
    source: str
    """Digest of the code that computes the numbers."""
    packages: dict[str, str]
    kind: str
    slots: list[str]
    notes: list[str]
    nonce: str
    """What the server wrote into the probe folder, in a file of its name; empty: nothing."""


def main(argument: str) -> None:
    question = Question(**json.loads(argument))
    print(f"{question.mark} {json.dumps(asdict(answer(question)))}", flush=True)


def answer(question: Question) -> Facts:
    """The facts that `question` asks for, as this host has them."""
    from orchestrator.plan.code_version import code_version

    runs = [_stand_in(question.command, need) for need in question.needs]
    problems: list[str] = []
    nonce = ""
    if question.claims is None:
        nonce = _shake_hands(question, problems)
    else:
        problems += _bucket(question, target_from_json(question.claims))
    devices = _devices(question, runs, problems)
    problems += [*_missing_paths(question), *_lack_of_space(question), *_at_work(question)]
    owner, code = this_owner(), code_version(runs[0])
    return Facts(
        problems=problems,
        host=owner.host,
        boot_id=owner.boot_id,
        now=time.time(),
        version=code["version"],
        control=control_digest(),
        source=code["source"],
        packages=package_versions(),
        kind=devices.kind if devices else "",
        slots=list(devices.slots) if devices else [],
        notes=list(devices.notes) if devices else [],
        nonce=nonce,
    )


def control_digest() -> str:
    """16 hex digits over the sources of the control plane, wherever they are installed."""
    digest = sha256()
    for package in _CONTROL_PLANE:
        for path in sorted((_SOURCE / package).rglob("*.py")):
            content = sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(_SOURCE).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """The installed ones of PACKAGES. Imports none of them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def open_patiently(path: Path, patience_s: float) -> bytes | None:
    """The content of a file that another host has just written; None where it does not appear."""
    deadline = time.monotonic() + patience_s
    while True:
        # Listed first: an NFS client may answer from memory that a file is not there.
        if path.name in fresh_names(path.parent):
            return path.read_bytes()
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.25)


def _shake_hands(question: Question, problems: list[str]) -> str:
    """Read what was written for us, and write something back."""
    folder = Path(question.output) / question.probe
    found = open_patiently(folder / "here", question.share_timeout_s)
    if found is None or found.decode("utf-8", "replace") != question.nonce:
        problems.append(
            f"{question.output} is not the output folder: a file written into it here did not "
            f"appear there in {question.share_timeout_s} s; mount the shared folder, or name it "
            f"by `output:` if its path differs there"
        )
        return ""
    nonce = secrets.token_hex(16)
    try:
        write_atomic(folder / question.server, lambda file: file.write(nonce.encode()))
    except (PapergridError, OSError) as error:
        problems.append(f"cannot write into the output folder: {error}")
        return ""
    return nonce


def _bucket(question: Question, target: BucketTarget) -> Iterator[str]:
    """What keeps this server from claiming runs in the bucket that it is to share."""
    from orchestrator.s3.bucket import Bucket
    from orchestrator.s3.permissions import bucket_check

    # Somebody waits for the answer: no long patience with a store that is away.
    target = replace(target, patience=2)
    rights = bucket_check(target, for_claims=True)
    missing = [right for right in rights if right.is_needed and not right.is_given]
    if missing:
        yield from (f"bucket: {right.name}: {right.reason}" for right in missing)
        return
    try:
        found = Bucket(target).get(question.probe)
    except PapergridError as error:
        yield f"bucket: get: {error}"
        return
    if found is None or found[0].decode("utf-8", "replace") != question.nonce:
        yield (
            f"bucket: {target.url} is another place there: an object written into it here is not "
            f"in it; give an --endpoint-url that means the same store everywhere"
        )


def _at_work(question: Question) -> Iterator[str]:
    """A server that works for this folder already is not given a second worker."""
    here = this_owner()
    for path in SweepPaths(Path(question.output)).worker_records():
        try:
            record = read_worker(path)
        except (FileNotFoundError, RecordError):
            continue
        if record.ended is None and owner_alive(record.owner, here):
            yield (
                f"a worker of submission {path.parents[1].name} is at work there for this folder "
                f"(process {record.owner.pid}): let it end or cancel it"
            )


def _stand_in(command: list[str] | None, need: Mapping[str, Any]) -> Run:
    need = dict(need)
    return Run(
        run_id=need.pop("run_id"),
        path="",
        cell="",
        axes={},
        config={},
        config_hash="",
        command=tuple(command) if command else None,
        resources=Resources(**need),
    )


def _devices(question: Question, runs: list[Run], problems: list[str]) -> Devices | None:
    try:
        devices = find_devices(question.devices, runs)
    except PapergridError as error:
        problems.append(str(error))
        return None
    if devices.kind == "cuda" and not question.allow_busy:
        problems += _busy(devices)
    return devices


def _busy(devices: Devices) -> Iterator[str]:
    uuids = dict(_query("--query-gpu=index,uuid"))
    names = {uuid: index for index, uuid in uuids.items()}
    for uuid, pid in _query("--query-compute-apps=gpu_uuid,pid"):
        name = uuid if uuid in devices.slots else names.get(uuid, uuid)
        if name in devices.slots:
            yield (
                f"GPU {name} is in use by process {pid}: name free ones by `devices:`, or set "
                f"`allow_busy: true`"
            )


def _query(query: str) -> list[tuple[str, str]]:
    """Rows of two columns that nvidia-smi gives; none where it fails."""
    words = ["nvidia-smi", query, "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    rows = [line.split(",", 1) for line in done.stdout.splitlines() if done.returncode == 0]
    return [(row[0].strip(), row[1].strip()) for row in rows if len(row) == 2]


def _missing_paths(question: Question) -> Iterator[str]:
    if question.data_root and not Path(question.data_root).is_dir():
        yield f"no data: there is no folder {question.data_root}; correct `data_root:`"
    elif question.data_root and not os.access(question.data_root, os.R_OK | os.X_OK):
        yield f"no data: {question.data_root} may not be read"
    if question.weights and not Path(question.weights).exists():
        yield f"no weights: there is no {question.weights}; correct `weights:`"


def _lack_of_space(question: Question) -> Iterator[str]:
    for what, path in (("output folder", question.output), ("cache", question.cache_dir)):
        folder = _existing(Path(path)) if path else None
        if folder is None:
            continue
        if not os.access(folder, os.W_OK):
            yield f"{what}: {folder} may not be written to"
        free_gb = shutil.disk_usage(folder).free / 2**30
        if free_gb < question.min_free_gb:
            yield (
                f"{what}: {free_gb:.1f} GiB are free on {folder}, {question.min_free_gb:g} are "
                f"asked for (`min_free_gb`): free some space"
            )


def _existing(path: Path) -> Path | None:
    return next((folder for folder in (path, *path.parents) if folder.is_dir()), None)


if __name__ == "__main__":
    main(sys.argv[1])
