"""The Python that a `command:` trains with, and its packages: asked of that Python itself.

Papergrid's own Python says nothing about it: a command often starts one of another environment.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.machine.environment import PACKAGES
from orchestrator.machine.launch import Launch

_PYTHON = re.compile(r"(python|pypy)\d*(\.\d+)?")
_WRAPPERS = frozenset(
    (
        *("env", "nice", "ionice", "nohup", "setsid", "stdbuf", "time", "timeout", "chrt"),
        *("numactl", "taskset", "uv", "poetry", "pipenv", "pdm", "hatch", "pixi"),
        *("conda", "mamba", "micromamba"),
    )
)
"""They start the words that follow them, and nothing else: asked with another program they are
harmless. `srun` or `docker` would take a GPU or start a container."""
_TIMEOUT_S = 10.0
_MARK = "papergrid-python "
_ASK = f"""
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {{}}
for name in {PACKAGES!r}:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = None
print({_MARK!r} + json.dumps(
    {{"python": platform.python_version(), "interpreter": sys.executable, "packages": found}}))
"""
UNKNOWN: Mapping[str, Any] = {"python": None, "interpreter": None, "packages": {}}
"""What is recorded where the command's Python cannot be found: not ours in its place."""

Known = dict[tuple[str, ...], Mapping[str, Any]]


def describe_trainer_python(launch: Launch, known: Known) -> Mapping[str, Any]:
    """Version, path and packages of the Python of a command; UNKNOWN where that is not known.

    Each is asked once: `known` keeps the answers of an executor.
    """
    words = _interpreter(_own_words(launch.argv), launch.cwd, launch.environment)
    if words is None:
        return UNKNOWN
    if words not in known:
        known[words] = _ask(words, launch) or UNKNOWN
    return known[words]


def _own_words(argv: Sequence[str]) -> Sequence[str]:
    """The command itself, behind torchrun."""
    return argv[argv.index("--no-python") + 1 :] if "--no-python" in argv else argv


def _interpreter(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> tuple[str, ...] | None:
    """The words that start the command's Python; None where that is not certain."""
    if not words:
        return None
    if Path(words[0]).name in _WRAPPERS:
        places = [i for i, word in enumerate(words) if _is_python(word)]
        return tuple(words[: places[0] + 1]) if places else None
    if _is_python(words[0]):
        return (words[0],)
    return _shebang(words[0], cwd, environment)


def _is_python(word: str) -> bool:
    return _PYTHON.fullmatch(Path(word).name) is not None


def _shebang(word: str, cwd: Path, environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The Python of a script such as `./train.py`, or of a console script such as `torchrun`."""
    found = str(cwd / word) if "/" in word else shutil.which(word, path=environment.get("PATH"))
    try:
        with Path(found or "").open("rb") as file:
            line = file.readline(512)
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    text = line[2:].decode("utf-8", "replace")
    try:
        words = shlex.split(text)
    # An open quotation mark: the kernel knows none.
    except ValueError:
        words = text.split()
    # Of `env python3` and `env -S python3 -u` the last program counts.
    programs = [i for i, each in enumerate(words) if _is_python(each)]
    return tuple(words[: programs[0] + 1]) if programs else None


def _ask(words: tuple[str, ...], launch: Launch) -> Mapping[str, Any] | None:
    try:
        done = subprocess.run(
            [*words, "-c", _ASK],
            cwd=launch.cwd,
            env=dict(launch.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        # A start-up file of the environment may print lines of its own.
        if line.startswith(_MARK):
            try:
                answer: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            except ValueError:
                return None
            return answer
    return None
