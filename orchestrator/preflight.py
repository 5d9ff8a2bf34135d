"""What would stop runs on this machine, found before any of them starts.

Of an experiment: packages, weights and data, found by `experiments.runtime.check` in the
Python that trains. Of a command: its program and the script files among its words.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import PreflightError
from merge.records.sweep import Run
from merge.wording import listed
from orchestrator.machine.limits import is_shortage, shortage
from orchestrator.machine.own_modules import import_variables, source_root, training_install

_INTERPRETERS = ("python", "bash", "sh", "torchrun", "accelerate", "Rscript", "julia")
_SCRIPTS = (".py", ".sh", ".R", ".jl")
TRAINER = ("packages", "python", "command", "task.py")
"""What problems of the trainer itself are about; all others may be of data and weights."""
_MAX_NAMED = 3
_MAX_SHOWN = 100

CHECKED = '{"checked": true}'
"""The last line of a check that came to its end: a program that is no Python prints none."""
_PATIENCE_S, _LIMIT_S = 60.0, 3600.0
"""A check may index a data set; where a file server does not answer, it would never end."""
_NO_CHECK = "--no-check starts without it"
_OTHER_PYTHON = f"name a Python that has papergrid; {_NO_CHECK}"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that runs need and lack."""

    about: str
    """What lacks it: a data set, a backbone, `packages`, a command."""
    message: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.about}: {self.message}"
        return f"{text}\n    -> {self.fix}" if self.fix else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the data, weights and derived files of the runs lie, and which Python trains."""

    data_root: Path | None
    weights: Path | None
    cache_dir: Path
    python: str | None = sys.executable
    """None: it is on other machines only, and what it needs is not looked for here."""
    has_own_path: bool = False
    """Whether a command's program may lie on another PATH than this one."""


def find_problems(runs: Iterable[Run], places: Places) -> list[Problem]:
    """Everything that would stop `runs` here; starts one process for each experiment."""
    runs = list(runs)
    names = sorted({run.experiment for run in runs if run.experiment})
    python = places.python
    found = [
        problem
        for name in (names if python else ())
        for problem in _of_experiment(name, runs, places, python or "")
    ]
    return [*found, *_of_commands(runs, has_own_path=places.has_own_path)]


def refuse(problems: Sequence[Problem]) -> None:
    """PreflightError with all `problems`, unless there are none."""
    if problems:
        raise PreflightError(tuple(str(problem) for problem in problems))


def _of_experiment(
    name: str, runs: Sequence[Run], places: Places, python: str
) -> Iterator[Problem]:
    configs = {run.config_hash: dict(run.config) for run in runs if run.experiment == name}
    request = {
        "configs": list(configs.values()),
        "data_root": _text(places.data_root),
        "weights": _text(places.weights),
        "cache_dir": str(places.cache_dir),
    }
    lines, problem = _ask_check(name, json.dumps(request), python)
    for line in lines:
        if found := _problem_of(line):
            is_install = found.about == "packages"
            yield replace(found, fix=training_install(python)) if is_install else found
        elif line != CHECKED:
            problem = problem or _no_answer(name, f"printed {line[:_MAX_SHOWN]!r}", python)
    if CHECKED not in lines and problem is None:
        problem = _no_answer(name, "ended without an answer", python)
    if problem:
        yield problem


def _ask_check(name: str, request: str, python: str) -> tuple[list[str], Problem | None]:
    """The lines that the check of an experiment prints, and what went wrong with it."""
    try:
        process = subprocess.Popen(
            [python, "-m", "experiments.runtime.check", name],
            env={**os.environ, **import_variables(os.environ, source_root())},
            stdin=subprocess.PIPE,
            # stderr stays the terminal's: indexing a data set shows its progress there.
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        if is_shortage(error):
            raise shortage(f"the check of {name}", error) from error
        return [], Problem("python", f"{python} cannot be started: {error.strerror}", _OTHER_PYTHON)
    with process:
        try:
            output = _output_of(process, request, name)
        except subprocess.TimeoutExpired:
            process.kill()
            text = f"its check has not ended in {_LIMIT_S / 60:.0f} min"
            return [], Problem(name, text, f"look for what it waits for, or {_NO_CHECK}")
        # Ctrl-C, too: nothing is left running.
        except BaseException:
            process.kill()
            raise
    code = process.returncode
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
    problem = Problem(name, f"its check {how}; see above") if code else None
    return output.splitlines(), problem


def _output_of(process: subprocess.Popen[str], request: str, name: str) -> str:
    """What `process` prints to its end. TimeoutExpired after the longest time that is waited."""
    try:
        return process.communicate(request, timeout=_PATIENCE_S)[0]
    except subprocess.TimeoutExpired:
        _log.warning(
            "the check of %s has taken %.0f s so far: Ctrl-C ends it, %s",
            name,
            _PATIENCE_S,
            _NO_CHECK,
        )
    return process.communicate(timeout=_LIMIT_S - _PATIENCE_S)[0]


def _problem_of(line: str) -> Problem | None:
    """The problem that a line of a check describes; None where it describes none."""
    try:
        return Problem(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _no_answer(name: str, how: str, python: str) -> Problem:
    return Problem(name, f"its check, started by {python}, {how}", _OTHER_PYTHON)


def _of_commands(runs: Iterable[Run], *, has_own_path: bool) -> Iterator[Problem]:
    """Programs and scripts that commands name and that are not there."""
    commands: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        if run.command:
            missing = _missing_files(run.command, has_own_path=has_own_path)
            commands.setdefault(tuple(missing), []).append(run.run_id)
    for words, run_ids in commands.items():
        for word in words:
            some = listed(run_ids[:_MAX_NAMED])
            more = f" and {len(run_ids) - _MAX_NAMED} more" if len(run_ids) > _MAX_NAMED else ""
            yield Problem(
                "command",
                f"{word} is not there, seen from {Path.cwd()}; it is named by {some}{more}",
                "correct `command:` in the study, or start where its files are",
            )


def _missing_files(command: Sequence[str], *, has_own_path: bool) -> Iterator[str]:
    program, *words = command
    is_elsewhere = has_own_path and "/" not in program
    # A placeholder may stand for any path.
    if "{" not in program and not is_elsewhere and shutil.which(program) is None:
        yield program
    if Path(program).name.startswith(_INTERPRETERS):
        # Only the script itself: a later word may name a file that it writes.
        script = next((word for word in words if word.endswith(_SCRIPTS)), None)
        if script and "{" not in script and not Path(script).exists():
            yield script


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
