"""Real ssh servers for tests: each host has a name, processes and an sshd of its own.

A host is a set of Linux namespaces on this machine: killing its first process is a power cut, which
leaves none of its processes alive. All hosts see the same files, as under a shared folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_PROGRAMS = ("ssh", "ssh-keygen", "sshd", "unshare", "mount")
_PATIENCE_S = 20.0

_SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {root}/key.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
PrintMotd no
UseDNS no
MaxStartups 100:30:200
"""

_CLIENT_CONFIG = """\
Host {name}
  HostName 127.0.0.1
  Port {port}
  HostKeyAlias {name}
"""

_CLIENT_DEFAULTS = """\
Host *
  User root
  IdentityFile {root}/key
  IdentitiesOnly yes
  UserKnownHostsFile {root}/known_hosts
  StrictHostKeyChecking yes
  LogLevel ERROR
"""

_HOST = """\
hostname "$1" && mkdir -p /run/sshd && mount -t tmpfs -o mode=755 tmpfs /run/sshd || exit 1
[ -z "$4" ] || mount --bind "$4" "$3" || exit 1
exec "$5" -D -e -f "$2"
"""
"""Run as the first process of a host: name, configuration, what to hide by what, sshd."""


def why_not() -> str:
    """Why no ssh servers can be started here; empty where they can."""
    if missing := [name for name in _PROGRAMS if _find(name) is None]:
        return f"ssh servers: {', '.join(missing)} not installed (make services)"
    if os.geteuid() != 0:
        return "ssh servers: only root can start hosts in namespaces"
    tried = subprocess.run([*_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"ssh servers: {tried.stderr.strip()}" if tried.returncode else ""


_NAMESPACES = (
    "unshare",
    *("--pid", "--fork", "--kill-child", "--uts", "--mount", "--mount-proc"),
    *("--propagation", "private"),
)


@dataclass
class Host:
    """One server. `process` is its first process as seen from outside."""

    name: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def pids(self) -> list[int]:
        """Ids, as seen from outside, of all processes of this host."""
        assert self.process is not None
        mine = _pid_namespace(_only_child(self.process.pid))
        folders = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [int(entry.name) for entry in folders if _pid_namespace(int(entry.name)) == mine]

    def cut_power(self) -> None:
        """Kill every process of the host at once."""
        if self.process is None:
            return
        with suppress(ProcessLookupError, FileNotFoundError, IndexError):
            os.kill(_only_child(self.process.pid), signal.SIGKILL)
        self.process.wait(_PATIENCE_S)
        self.process = None


@dataclass
class SshHosts:
    """Several hosts and the client configuration that reaches them by name."""

    root: Path
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def ssh_config(self) -> Path:
        return self.root / "ssh_config"

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def start(self, *names: str, hide: Path | None = None) -> None:
        """Start hosts of these names. On them the folder `hide` is an empty one of their own."""
        for name in names:
            self.hosts[name] = self._prepare(name)
        self._write_client_files()
        for name in names:
            self._boot(self.hosts[name], hide)
        for name in names:
            self._wait_for(self.hosts[name])

    def run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a remote command by the plain ssh client."""
        return subprocess.run(
            ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", name, *words],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )

    def close(self) -> None:
        for host in self.hosts.values():
            host.cut_power()

    def _prepare(self, name: str) -> Host:
        folder = self.root / name
        folder.mkdir(parents=True)
        host = Host(name=name, port=_free_port(), folder=folder)
        _make_key(folder / "host_key")
        text = _SSHD_CONFIG.format(port=host.port, folder=folder, root=self.root)
        (folder / "sshd_config").write_text(text)
        return host

    def _write_client_files(self) -> None:
        hosts = self.hosts.values()
        config = [_CLIENT_CONFIG.format(name=host.name, port=host.port) for host in hosts]
        self.ssh_config.write_text("".join([*config, _CLIENT_DEFAULTS.format(root=self.root)]))
        keys = [f"{h.name} {(h.folder / 'host_key.pub').read_text()}" for h in hosts]
        (self.root / "known_hosts").write_text("".join(keys))

    def _boot(self, host: Host, hide: Path | None) -> None:
        own = host.folder / "own"
        own.mkdir()
        words = [host.name, host.folder / "sshd_config", hide or "", own if hide else ""]
        with (host.folder / "sshd.log").open("wb") as log:
            host.process = subprocess.Popen(
                [*_NAMESPACES, "sh", "-c", _HOST, "sh", *map(str, words), str(_find("sshd"))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # As on a server: nothing of the environment of whoever runs the tests is there.
                env={"PATH": os.defpath},
            )

    def _wait_for(self, host: Host) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self.run(host.name, "true").returncode:
            log = (host.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline, f"{host.name} does not answer: {log}"
            time.sleep(0.05)


@contextmanager
def ssh_hosts(root: Path) -> Iterator[SshHosts]:
    """Hosts that do not outlive the block; start them with `start`."""
    root.mkdir(parents=True)
    root.chmod(0o700)
    _make_key(root / "key")
    hosts = SshHosts(root)
    try:
        yield hosts
    finally:
        hosts.close()


def _make_key(path: Path) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(words, check=True, capture_output=True)


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""
