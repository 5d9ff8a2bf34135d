"""What would stop runs on this machine, found before any of them starts.

Of an experiment: packages, weights and data, found by `experiments.runtime.check` in the
Python that trains. Of a command: its program and the script files among its words.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import PreflightError
from merge.records.sweep import Run
from merge.wording import listed
from orchestrator.machine.own_modules import import_variables, source_root, training_install

_INTERPRETERS = ("python", "bash", "sh", "torchrun", "accelerate", "Rscript", "julia")
_SCRIPTS = (".py", ".sh", ".R", ".jl")
_MAX_NAMED = 3
_TOO_LONG = -1000
"""No signal has this number."""


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
    done = _checked(name, request, python, places.limit_s)
    for line in done.stdout.splitlines():
        problem = Problem(**json.loads(line))
        is_install = problem.about == "packages"
        yield replace(problem, fix=training_install(python)) if is_install else problem
    if done.returncode == _TOO_LONG:
        on_note(f"{name}: its check took longer than {places.limit_s:.0f} s and was ended")
    elif done.returncode:
        said = (done.stderr or "").strip().splitlines()
        where = said[-1] if said else "see above"
        yield Problem(name, f"its check ended with exit code {done.returncode}; {where}")


def _checked(
    name: str, request: Mapping[str, object], python: str, limit_s: float | None
) -> subprocess.CompletedProcess[str]:
    """The ended check of an experiment, with the exit code `_TOO_LONG` where it was ended."""
    words = [python, "-m", "experiments.runtime.check", name]
    try:
        return subprocess.run(
            words,
            input=json.dumps(request),
            env={**os.environ, **import_variables(os.environ, source_root())},
            stdout=subprocess.PIPE,
            # The terminal's where a person waits here: indexing shows its progress there.
            stderr=None if limit_s is None else subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        # Bytes, though text was asked for; its last line may be cut off.
        found = error.stdout.decode("utf-8", "replace") if error.stdout else ""
        return subprocess.CompletedProcess(words, _TOO_LONG, found[: found.rfind("\n") + 1])


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
