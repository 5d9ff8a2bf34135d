"""Prepares the data of runs, by starting a module of their experiment as a process.

An experiment's manifest names the module, which downloads, unpacks and indexes its data sets, and
the values of a configuration that it gets (`data: prepare:`, docs/studies.md).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from merge.errors import UsageError
from merge.records.sweep import Run

if TYPE_CHECKING:
    from orchestrator.studies.experiment import Experiment


_RUN_ELSEWHERE = (
    "import runpy, sys; _, parent, module, *words = sys.argv; sys.path.append(parent); "
    "sys.argv = [module, *words]; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)
"""Runs a module of a folder elsewhere as the trainer imports it: a package, its parent last on the
path. In PYTHONPATH, files beside the folder would shadow modules of Python's own."""


def prepare_words(runs: Sequence[Run]) -> list[str]:
    """The module that prepares the data of `runs`, and the words that say which data.

    UsageError where the study trains with a command, or its experiment cannot prepare data.
    """
    for experiment in _experiments(runs):
        entry = experiment.data.prepare
        if entry is not None:
            ours = [run for run in runs if run.experiment == experiment.name]
            return [*module_words(experiment, entry.module), *_words(ours, entry.words)]
    raise UsageError(
        "there is nothing to prepare: this study trains with a command or an experiment that looks "
        "after its own data"
    )


def root_words(data_root: Path | None) -> list[str]:
    """The words that pass `--data-root` on; none without it."""
    return [] if data_root is None else ["--data-root", str(data_root)]


def module_words(experiment: Experiment, module: str) -> list[str]:
    """The words behind `python` that start a module of an experiment."""
    if experiment.is_built_in:
        return ["-m", f"experiments.{experiment.name}.{module}"]
    folder = experiment.folder.resolve()
    return ["-c", _RUN_ELSEWHERE, str(folder.parent), f"{folder.name}.{module}"]


def start(words: Sequence[str], *, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python` with `words` to its end; its errors go to stderr as they are."""
    return subprocess.run(
        [sys.executable, *words], env=_environment(), stdout=stdout, text=True, check=False
    )


def replace_process(words: Sequence[str]) -> NoReturn:
    """Replace this process by one of our modules: it gets the signals, and none is left over."""
    # `execve` does not flush Python's buffers: what was printed so far would be lost.
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *words], _environment())


def _experiments(runs: Iterable[Run]) -> list[Experiment]:
    from orchestrator.studies.experiment import read_experiment

    names = sorted({run.experiment for run in runs if run.experiment})
    return [read_experiment(name) for name in names]


def _environment() -> dict[str, str]:
    from orchestrator.machine.own_modules import import_variables, source_root

    return {**os.environ, **import_variables(os.environ, source_root())}


def _words(runs: Iterable[Run], flags: Mapping[str, str]) -> list[str]:
    configs = [run.config for run in runs]
    words: list[str] = []
    for key, flag in flags.items():
        values = sorted({str(config[key]) for config in configs if key in config})
        words += [flag, *values] if values else []
    return words
