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
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    limit_s: float | None = None
    """Where a person waits for many machines: how long an experiment's check may take. It leaves
    out what may take minutes."""


def find_problems(
    runs: Iterable[Run], places: Places, on_note: Callable[[str], object] = lambda _: None
) -> list[Problem]:
    """Everything that would stop `runs` here; starts one process for each experiment.

    `on_note` gets a line about what was not looked for in the time that `places` allows.
    """
    runs = list(runs)
    names = sorted({run.experiment for run in runs if run.experiment})
    python = places.python
    found = [
        problem
        for name in (names if python else ())
        for problem in _of_experiment(name, runs, places, python or "", on_note)
    ]
    return [*found, *_of_commands(runs, has_own_path=places.has_own_path)]


def refuse(problems: Sequence[Problem]) -> None:
    """PreflightError with all `problems`, unless there are none."""
    if problems:
        raise PreflightError(tuple(str(problem) for problem in problems))


def _of_experiment(
    name: str,
    runs: Sequence[Run],
    places: Places,
    python: str,
    on_note: Callable[[str], object],
) -> Iterator[Problem]:
    configs = {run.config_hash: dict(run.config) for run in runs if run.experiment == name}
    request = {
        "configs": list(configs.values()),
        "data_root": _text(places.data_root),
        "weights": _text(places.weights),
        "cache_dir": str(places.cache_dir),
        "quick": places.limit_s is not None,
    }
    ended = _ask_check(name, json.dumps(request), python, places.limit_s)
    for line in ended.lines:
        if found := _problem_of(line):
            is_install = found.about == "packages"
            yield replace(found, fix=training_install(python)) if is_install else found
    if ended.is_too_long and places.limit_s is not None:
        on_note(f"{name}: its check took longer than {places.limit_s:.0f} s and was ended")
    elif problem := ended.problem or _unanswered(name, ended.lines, python):
        yield problem


@dataclass(frozen=True, slots=True)
class _Ended:
    """The check of an experiment that has ended, or was ended."""

    lines: Sequence[str] = ()
    problem: Problem | None = None
    is_too_long: bool = False


def _ask_check(name: str, request: str, python: str, limit_s: float | None) -> _Ended:
    try:
        process = subprocess.Popen(
            [python, "-m", "experiments.runtime.check", name],
            env={**os.environ, **import_variables(os.environ, source_root())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The terminal's where a person waits here: indexing shows its progress there.
            stderr=None if limit_s is None else subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        if is_shortage(error):
            raise shortage(f"the check of {name}", error) from error
        text = f"{python} cannot be started: {error.strerror}"
        return _Ended(problem=Problem("python", text, _OTHER_PYTHON))
    with process:
        try:
            return _answer(process, request, name, limit_s)
        # Ctrl-C, too: nothing is left running.
        except BaseException:
            process.kill()
            raise


def _answer(
    process: subprocess.Popen[str], request: str, name: str, limit_s: float | None
) -> _Ended:
    try:
        output, errors = _output_of(process, request, name, limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        text = f"its check has not ended in {_LIMIT_S / 60:.0f} min"
        problem = Problem(name, text, f"look for what it waits for, or {_NO_CHECK}")
        return _Ended(process.communicate()[0].splitlines(), problem, is_too_long=True)
    code = process.returncode
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
    said = (errors or "").strip().splitlines()
    where = said[-1] if said else "see above"
    return _Ended(output.splitlines(), Problem(name, f"its check {how}; {where}") if code else None)


def _output_of(
    process: subprocess.Popen[str], request: str, name: str, limit_s: float | None
) -> tuple[str, str | None]:
    """What `process` prints to its end. TimeoutExpired after the longest time that is waited."""
    if limit_s is not None:
        return process.communicate(request, timeout=limit_s)
    try:
        return process.communicate(request, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        text = "the check of %s has taken %.0f s so far: Ctrl-C ends it, %s"
        _log.warning(text, name, _PATIENCE_S, _NO_CHECK)
    return process.communicate(timeout=_LIMIT_S - _PATIENCE_S)


def _problem_of(line: str) -> Problem | None:
    """The problem that a line of a check describes; None where it describes none."""
    try:
        return Problem(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _unanswered(name: str, lines: Sequence[str], python: str) -> Problem | None:
    """That what `python` printed is not the whole answer of a check; None where it is."""
    other = next((one for one in lines if one != CHECKED and not _problem_of(one)), None)
    if CHECKED in lines and other is None:
        return None
    how = "ended without an answer" if other is None else f"printed {other[:_MAX_SHOWN]!r}"
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
