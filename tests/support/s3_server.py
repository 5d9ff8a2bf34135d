"""Real S3 servers for tests: ministack (honours conditions), rclone (signatures, no conditions).

They are looked for in the environment that PAPERGRID_TEST_S3 names (default `.venv-s3`, which
`make test` creates), then on PATH; a suite skips visibly where they are not installed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KEY_ID = "AKIAPAPERGRIDTESTING"
SECRET = "quince/Zebra+7vacuum0Harvest4Nickel9Topaz"
BUCKET = "papers"

_DEFAULT_ENVIRONMENT = Path(__file__).parents[2] / ".venv-s3"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """A running server with one bucket, `papers`."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def flags(self) -> tuple[str, str]:
        return ("--endpoint-url", self.endpoint)

    def client(self) -> Any:
        return client_of(self.endpoint)


def environment(folder: Path) -> dict[str, str]:
    """The variables that give commands these tests' credentials, and no one else's."""
    nothing = folder / "no-aws-config"
    return {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(nothing),
        "AWS_SHARED_CREDENTIALS_FILE": str(nothing),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def program(name: str) -> str:
    """The path of a server's program; skips the test where it is not installed."""
    folder = Path(os.environ.get("PAPERGRID_TEST_S3") or _DEFAULT_ENVIRONMENT) / "bin"
    found = shutil.which(name, path=f"{folder}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"S3: {name} is neither in {folder} nor on PATH (make .venv-s3/.setup-done)")
    return found


@contextmanager
def ministack(folder: Path, *, port: int | None = None) -> Iterator[S3Server]:
    """A server that keeps its objects in `folder`, honours conditions and checks no signature."""
    port = port or free_port()
    environ = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder),
    }
    with _running([program("ministack")], port, environ, folder) as server:
        yield server


@contextmanager
def rclone(folder: Path) -> Iterator[S3Server]:
    """A server that checks signatures and ignores conditions."""
    port = free_port()
    words = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    # rclone offers no other door for its key; the one that is tested is `replicate`.
    words += ["--auth-key", f"{KEY_ID},{SECRET}", str(folder / "objects")]
    (folder / "objects").mkdir(parents=True)
    with _running(words, port, os.environ, folder) as server:
        yield server


def client_of(endpoint: str) -> Any:
    """A client of the tests' own, to look behind the back of papergrid."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _running(
    words: list[str], port: int, environ: Mapping[str, str], folder: Path
) -> Iterator[S3Server]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(words, env=dict(environ), stdout=log, stderr=log)
    try:
        _wait_for(port, process, folder / "server.log")
        server = S3Server(f"http://127.0.0.1:{port}", process)
        if BUCKET not in {b["Name"] for b in server.client().list_buckets()["Buckets"]}:
            server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return
