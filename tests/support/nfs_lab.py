"""A real NFS server with two real clients, in a kernel of their own (User-Mode-Linux).

The guest sees this machine's files read-only, and the lab's folder to write to. A scenario is a
shell script: `on 1 COMMAND` runs a command as host c1, which has the export at /mnt/c1; the server
itself sees it at /mnt/srv. What it leaves in its working folder can be looked at afterwards.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
ROOT = _HERE.parent.parent
_KERNEL = "linux.uml"
_MODULES = Path("/usr/lib/uml/modules")
_PROGRAMS = (_KERNEL, "rpc.nfsd", "rpcbind", "mount.nfs", "modprobe", "ip", "cc")


def skip_without_nfs() -> None:
    """Skip the test where this machine cannot have the lab."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in _PROGRAMS if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"NFS: {', '.join(missing)} not installed (make services)")
    if os.geteuid():
        pytest.skip("NFS: only root can start the server")


class NfsLab:
    """One guest; `folder` is what it may write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "modules" / "lib").mkdir(parents=True)
        (folder / "modules" / "lib" / "modules").symlink_to(_MODULES)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def run(self, nfs: str, scenario: str, timeout_s: float = 500.0) -> None:
        """Boot with mounts of version `nfs`, run `scenario`; AssertionError unless it succeeds."""
        drive, merge = _HERE / "drive_claims.py", _HERE / "drive_merging.py"
        names = {"python": sys.executable, "drive": drive, "merge": merge}
        prelude = "".join(f"{name}={shlex.quote(str(path))}\n" for name, path in names.items())
        (self.folder / "scenario.sh").write_text(prelude + scenario)
        with (self.folder / "console").open("wb") as console:
            kernel = subprocess.Popen(
                [_KERNEL, *self._kernel_words(nfs)],
                env={**os.environ, "LD_PRELOAD": str(self._build_preload()), "TMPDIR": "/dev/shm"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            kernel.wait(timeout_s)
        finally:
            # Its helpers are processes of their own.
            with suppress(ProcessLookupError):
                os.killpg(kernel.pid, signal.SIGKILL)
            kernel.wait()
        status = self.folder / "status"
        assert status.exists(), (self.folder / "console").read_text(errors="replace")[-3000:]
        assert status.read_text() == "0\n", self.log

    def _kernel_words(self, nfs: str) -> list[str]:
        return [
            "mem=1G",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"init={_HERE / 'nfs_boot.sh'}",
            "con=null",
            "con0=fd:0,fd:1",
            f"uml_dir={self.folder}/",
            f"LAB={self.folder}",
            f"NFS={nfs}",
            f"PYTHONPATH={ROOT}:{ROOT / 'tests'}:{sysconfig.get_path('purelib')}",
        ]

    def _build_preload(self) -> Path:
        library = self.folder / "uml_xstate.so"
        source = _HERE / "uml_xstate.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        return library
