"""Output folders to send, and what a bucket holds, seen without papergrid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from merge.records.sweep import Run, Sweep
from support.grids import write_result, write_sweep
from support.s3_server import BUCKET


def write_run(output: Path, run: Run, miou: float, *, size: int = 1000, **fields: object) -> None:
    """A finished run: a checkpoint that no other run has, a log, a result."""
    folder = output / run.path
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "attempts/0001").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints/last.pt").write_bytes(unique_bytes(run.run_id, size))
    (folder / "attempts/0001/stdout.log").write_text(f"trained {run.run_id}\n")
    write_result(output, run, miou, **fields)


def write_output(output: Path, sweep: Sweep, runs: Iterable[Run], *, size: int = 1000) -> Path:
    """An output folder in which `runs` of `sweep` are finished."""
    write_sweep(output, sweep)
    for number, run in enumerate(runs):
        write_run(output, run, number / 1000, size=size)
    return output


def unique_bytes(name: str, size: int) -> bytes:
    """`size` bytes that differ between names, quickly made."""
    block = hashlib.sha512(name.encode()).digest() * 16
    return (block * (size // len(block) + 1))[:size]


def objects(client: Any, prefix: str) -> dict[str, bytes]:
    """All objects below `prefix`, hidden ones left out."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {
        key.removeprefix(f"{prefix}/"): client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        for key in keys
        if "/." not in key
    }


def sha256_stored(client: Any, key: str) -> str:
    """The SHA-256 in an object's metadata."""
    metadata = client.head_object(Bucket=BUCKET, Key=key)["Metadata"]
    return str(metadata["papergrid-sha256"])


def files(output: Path) -> dict[str, bytes]:
    """All files below an output folder but hidden ones, by name."""
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and "/." not in f"/{path.relative_to(output).as_posix()}"
    }
