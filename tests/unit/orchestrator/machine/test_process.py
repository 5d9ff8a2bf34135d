"""Processes: found by their mark, killed with all they started, asked to stop where it counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.executors import marked, wait_until

from merge.errors import StorageError
from orchestrator.machine import guard
from orchestrator.machine.guard import initial_environment, kill_marked, marked_processes
from orchestrator.machine.launch import Launch
from orchestrator.machine.process import Guardian, Process

MARK = "PAPERGRID_TOKEN"


@pytest.fixture
def token() -> Iterator[str]:
    with marked(MARK) as value:
        yield value


class Started:
    """A process started for a test, and what became of it."""

    def __init__(self, folder: Path, token: str, *argv: str, has_agent: bool = False) -> None:
        self.has_ended = threading.Event()
        self.out = folder / "out"
        environment = {"PATH": os.environ["PATH"], MARK: token}
        launch = Launch(argv=argv, environment=environment, cwd=folder, has_agent=has_agent)
        self.process = Process(launch, self.out, folder / "err", self.has_ended.set)

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self.out.read_text(), words)

    def finish(self) -> int:
        assert self.has_ended.wait(60)
        code, survivors = self.process.finish()
        assert survivors == []
        return code


def test_the_end_is_told_at_once_with_the_exit_code(tmp_path, token):
    """Whatever it has started itself may go on."""
    started = Started(tmp_path, token, "sh", "-c", "sleep 600 & echo hello; exit 7")
    assert started.finish() == 7
    assert started.out.read_text() == "hello\n"


def test_death_by_a_signal_is_told_as_the_shell_tells_it(tmp_path, token):
    assert Started(tmp_path, token, "sh", "-c", "kill -SEGV $$").finish() == 128 + signal.SIGSEGV


@pytest.mark.parametrize(
    "child",
    ["sleep 600 &", "setsid sleep 600 &", "(trap '' TERM HUP; setsid sleep 600 & ) &"],
    ids=["background", "own session", "orphan that ignores signals"],
)
def test_nothing_outlives_its_command(tmp_path, token, child):
    started = Started(tmp_path, token, "sh", "-c", f"{child} sleep 0.1; echo over")
    assert started.finish() == 0
    assert marked_processes(MARK, token) == []


def test_a_child_that_hides_its_mark_is_killed_with_its_group(tmp_path, token):
    script = "env -i sleep 600 & echo $!"
    started = Started(tmp_path, token, "sh", "-c", script)
    started.finish()
    child = int(started.out.read_text())
    wait_until(lambda: not Path(f"/proc/{child}").exists() or is_zombie(child), "its death")


def is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_a_request_to_stop_reaches_the_command_alone_not_its_loaders(tmp_path, token):
    script = (
        "import os, signal, subprocess, sys;"
        "loader = subprocess.Popen(['sleep', '600']);"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9 if loader.poll() is None else 1));"
        "print('ready', flush=True);"
        "[signal.pause() for _ in iter(int, 1)]"
    )
    started = Started(tmp_path, token, sys.executable, "-c", script)
    started.wait_for("ready")
    started.process.ask_to_stop()
    assert started.finish() == 9


AGENT = """
import os, signal, subprocess, sys
rank = '''
import signal, subprocess, sys
loader = subprocess.Popen(["sleep", "600"])
def stop(*_):
    print("loader lives" if loader.poll() is None else "loader died", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
while True:
    signal.pause()
'''
def spawn(n):
    return subprocess.Popen([sys.executable, "-c", rank], env={**os.environ, "LOCAL_RANK": str(n)})
signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
ranks = [spawn(0)]
sys.stdin = open("go")
ranks.append(spawn(1))
for one in ranks:
    one.wait()
sys.exit(0)
"""


def test_under_an_agent_only_the_ranks_are_asked_and_late_ones_too(tmp_path, token):
    os.mkfifo(tmp_path / "go")
    started = Started(tmp_path, token, sys.executable, "-c", AGENT, has_agent=True)
    started.wait_for("ready")
    started.process.ask_to_stop()
    started.process.ask_to_stop()
    started.wait_for("loader lives")
    (tmp_path / "go").write_text("")
    wait_until(lambda: started.out.read_text().count("ready") == 2, "the second rank")
    started.process.ask_to_stop()
    assert started.finish() == 0
    assert started.out.read_text().count("loader lives") == 2


def test_a_log_that_cannot_be_written_is_a_storage_error(tmp_path, token):
    launch = Launch(argv=("true",), environment={MARK: token}, cwd=tmp_path, has_agent=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="out"):
        Process(launch, tmp_path / "file" / "out", tmp_path / "err", lambda: None)


def test_a_process_has_its_mark_from_the_moment_it_is_started(token):
    for _ in range(50):
        started = subprocess.Popen(["sleep", "600"], env={MARK: token})
        found = initial_environment(started.pid)
        started.kill()
        started.wait()
        assert f"\0{MARK}={token}\0".encode() in found


def test_only_the_whole_mark_counts(token):
    others = [
        subprocess.Popen(["sleep", "600"], env={MARK: token + "x"}),
        subprocess.Popen(["sleep", "600"], env={"X" + MARK: token}),
        subprocess.Popen(["sleep", "600"], env={"OTHER": f"{MARK}={token}"}),
    ]
    ours = subprocess.Popen(["sleep", "600"], env={"A": "1", MARK: token, "B": "x" * 100_000})
    assert kill_marked(MARK, token) == []
    assert ours.wait(60) == -signal.SIGKILL
    assert [other.poll() for other in others] == [None] * 3
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.parametrize("is_dismissed", [True, False])
def test_the_guard_kills_only_where_its_executor_left_without_a_farewell(is_dismissed):
    with marked(guard.EXECUTOR) as marker:
        child = subprocess.Popen(["sleep", "600"], env={guard.EXECUTOR: marker})
        script = [sys.executable, "-I", "-S", guard.__file__, marker]
        watching = subprocess.Popen(script, stdin=subprocess.PIPE)
        watching.communicate(b"q" if is_dismissed else b"")
        assert child.poll() is None if is_dismissed else child.wait(60) == -signal.SIGKILL
        child.kill()
        child.wait()


def test_a_guard_that_dies_is_told_and_replaced_and_a_dismissed_one_is_not():
    deaths: list[int] = []
    guardian = Guardian("some-marker", lambda: deaths.append(1))
    wait_until(lambda: len(guards_of(os.getpid())) == 1, "a guard")
    os.kill(guards_of(os.getpid())[0], signal.SIGKILL)
    wait_until(lambda: deaths, "the news of its death")
    guardian.restart()
    wait_until(lambda: len(guards_of(os.getpid())) == 1, "another guard")
    guardian.close()
    assert guards_of(os.getpid()) == []
    assert deaths == [1]


def guards_of(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-ww", "-o", "pid=,stat=,args=", "--ppid", str(pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
    return [int(n) for n, stat, args in lines if "guard.py" in args and not stat.startswith("Z")]
