"""What a server can do: runs there as `python -m orchestrator.servers.probe REQUEST`.

The request is a JSON argument, the result one JSON line that begins with the request's mark.
Imports only the standard library and light modules, so that a host answers in a fraction of a
second.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from merge.errors import PapergridError, RecordError, StudyError
from merge.records.records import read_worker
from merge.records.sweep import Resources, Run
from merge.storage.atomic import write_bytes
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.nfs import fresh_names
from merge.storage.paths import SweepPaths
from merge.wording import size_text
from orchestrator.machine.devices import Devices, find_devices
from orchestrator.machine.gpus_in_use import foreign_processes
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.s3.url import BucketTarget, target_from_json
from orchestrator.servers.needs import lacking
from orchestrator.servers.probe_protocol import ProbeRequest, ProbeResult, request_from_text
from orchestrator.servers.versions import control_digest, package_versions


def main(argument: str) -> None:
    request = request_from_text(argument)
    print(f"{request.mark} {probe(request).to_text()}", flush=True)


def probe(request: ProbeRequest, clock: Clock = SYSTEM_CLOCK) -> ProbeResult:
    """Check everything that `request` names on this host."""
    runs = [_run_with(request, need) for need in request.needs]
    problems: list[str] = []
    nonce = ""
    if request.claims is None:
        nonce = _exchange_nonces(request, problems)
    else:
        problems += _bucket_problems(request, target_from_json(request.claims))
    devices = _find_devices(request, runs, problems)
    problems += [*_missing_paths(request), *_lack_of_space(request), *_running_workers(request)]
    notes = list(devices.notes) if devices else []
    problems += lacking(request, runs[0], notes)
    result = _result(request, runs[0], problems, devices, nonce, clock)
    return replace(result, notes=notes)


def _result(
    request: ProbeRequest,
    run: Run,
    problems: list[str],
    devices: Devices | None,
    nonce: str,
    clock: Clock,
) -> ProbeResult:
    """What was found, and what this host and its code are. `run` says which code counts."""
    from orchestrator.plan.code_version import installed_version

    owner = this_owner()
    return ProbeResult(
        problems=problems,
        host=owner.host,
        boot_id=owner.boot_id,
        now=clock.now(),
        version=installed_version(),
        control=control_digest(),
        source=_source(run, request.code_files),
        packages=package_versions(),
        kind=devices.kind if devices else "",
        slots=list(devices.slots) if devices else [],
        notes=[],
        nonce=nonce,
    )


def _source(run: Run, named: list[str] | None) -> str:
    from orchestrator.plan.code_version import code_version

    try:
        return code_version(run, named=named)["source"]
    except StudyError:
        # With --snapshot the code is in the output folder, and the server needs no copy of its own.
        return "absent"


def wait_for_content(path: Path, timeout_s: float, clock: Clock = SYSTEM_CLOCK) -> bytes | None:
    """The content of a file that another host has just written; None if it does not appear."""
    deadline = clock.monotonic() + timeout_s
    while True:
        # The folder is listed first: an NFS client caches for up to 30 s that a file is absent,
        # and answers open() from that cache.
        if path.name in fresh_names(path.parent):
            return path.read_bytes()
        if clock.monotonic() >= deadline:
            return None
        clock.sleep(0.25)


def _exchange_nonces(request: ProbeRequest, problems: list[str]) -> str:
    """Read the nonce that the submitting machine wrote, and write one back.

    Equal paths prove nothing: only content that passes both ways shows that the folder is shared.
    """
    folder = Path(request.output) / request.probe
    found = wait_for_content(folder / "here", request.share_timeout_s)
    if found is None or found.decode("utf-8", "replace") != request.nonce:
        problems.append(
            f"{request.output} is not the shared output folder: a file written on the submitting "
            f"machine did not appear there in {request.share_timeout_s} s; mount the shared "
            f"folder, or name its path on this server with `output:`"
        )
        return ""
    return _write_nonce(folder / request.server, problems)


def _write_nonce(path: Path, problems: list[str]) -> str:
    """A new nonce, written into `path`; empty where that cannot be written."""
    nonce = secrets.token_hex(16)
    try:
        write_bytes(path, nonce.encode())
    except (PapergridError, OSError) as error:
        problems.append(f"cannot write into the output folder: {error}")
        return ""
    return nonce


def _bucket_problems(request: ProbeRequest, target: BucketTarget) -> Iterator[str]:
    """What prevents this server from claiming runs in the shared bucket."""
    from orchestrator.s3.permissions import check_permissions

    # A person waits for the result: few retries, short back-off.
    target = replace(target, max_attempts=2)
    found = check_permissions(target, for_claims=True)
    missing = [each for each in found if each.is_needed and not each.is_given]
    if missing:
        yield from (f"bucket: {each.name}: {each.reason}" for each in missing)
    else:
        yield from _other_bucket(request, target)


def _other_bucket(request: ProbeRequest, target: BucketTarget) -> Iterator[str]:
    """A problem where the same URL means another store on this server."""
    from orchestrator.s3.bucket import Bucket

    try:
        found = Bucket(target).get(request.probe)
    except PapergridError as error:
        yield f"bucket: get: {error}"
        return
    if found is None or found[0].decode("utf-8", "replace") != request.nonce:
        yield (
            f"bucket: {target.url} is another store on this server: an object that the submitting "
            f"machine wrote is not in it; give an --endpoint-url that means the same store "
            f"everywhere"
        )


def _running_workers(request: ProbeRequest) -> Iterator[str]:
    """A server that already runs a worker for this folder does not get a second one."""
    here = this_owner()
    for path in SweepPaths(Path(request.output)).worker_records():
        try:
            record = read_worker(path)
        except (FileNotFoundError, RecordError):
            continue
        if record.ended is None and owner_alive(record.owner, here):
            yield (
                f"a worker of submission {path.parents[1].name} already runs there for this folder "
                f"(process {record.owner.pid}): wait for its end or cancel it"
            )


def _run_with(request: ProbeRequest, need: Mapping[str, Any]) -> Run:
    """A run that has only what the checks read: resources, command or experiment."""
    need = dict(need)
    return Run(
        run_id=need.pop("run_id"),
        path="",
        cell="",
        axes={},
        config={},
        config_hash="",
        experiment=request.experiment,
        command=tuple(request.command) if request.command else None,
        resources=Resources(**need),
    )


def _find_devices(request: ProbeRequest, runs: list[Run], problems: list[str]) -> Devices | None:
    try:
        devices = find_devices(request.devices, runs)
    except PapergridError as error:
        problems.append(str(error))
        return None
    if devices.kind == "cuda" and not request.allow_busy:
        problems += _busy_gpus(devices)
    return devices


def _busy_gpus(devices: Devices) -> Iterator[str]:
    found, problem = foreign_processes(devices.slots)
    if problem:
        yield (
            f"whether other processes use the GPUs is not known: {problem}; repair nvidia-smi, or "
            f"set `allow_busy: true` to skip this check"
        )
    for name, user in found:
        yield (
            f"GPU {name} is in use by {user}: name free GPUs with `devices:`, or set "
            f"`allow_busy: true`"
        )


def _missing_paths(request: ProbeRequest) -> Iterator[str]:
    if request.data_root and not Path(request.data_root).is_dir():
        yield f"no data: there is no folder {request.data_root}; correct `data_root:`"
    elif request.data_root and not os.access(request.data_root, os.R_OK | os.X_OK):
        yield f"no data: no permission to read {request.data_root}"
    if request.weights and not Path(request.weights).exists():
        yield f"no weights: there is no {request.weights}; correct `weights:`"


def _lack_of_space(request: ProbeRequest) -> Iterator[str]:
    for what, path in (("output folder", request.output), ("cache", request.cache_dir)):
        folder = _nearest_folder(Path(path)) if path else None
        if folder is None:
            continue
        if not os.access(folder, os.W_OK):
            yield f"{what}: no permission to write to {folder}"
        free = shutil.disk_usage(folder).free
        if free < request.min_free_gb * 2**30:
            yield (
                f"{what}: {folder} has {size_text(free)} free, but `min_free_gb` requires "
                f"{request.min_free_gb:g} GiB: free some space"
            )


def _nearest_folder(path: Path) -> Path | None:
    """`path` or the lowest folder above it that exists."""
    return next((folder for folder in (path, *path.parents) if folder.is_dir()), None)


if __name__ == "__main__":
    main(sys.argv[1])
