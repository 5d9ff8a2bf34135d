"""The files that a study's command needs before it can start: its program and its script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

_SCRIPTS = frozenset({".py", ".sh", ".bash", ".R", ".r", ".jl", ".pl", ".rb", ".lua", ".js"})


def missing_command_files(command: Sequence[str], cwd: Path) -> tuple[str, ...]:
    """The words of `command` that name a program or script which is not there, as seen from `cwd`.

    A program without a slash is not looked for: PATH may be another where the command starts. Words
    with a placeholder count for nothing.
    """
    words = (word for word in _needed(command) if "{" not in word)
    return tuple(word for word in words if not (cwd / word).is_file())


def _needed(command: Sequence[str]) -> Iterator[str]:
    if "/" in command[0]:
        yield command[0]
    script = next((word for word in command[1:] if not word.startswith("-")), "")
    if Path(script).suffix in _SCRIPTS:
        yield script
