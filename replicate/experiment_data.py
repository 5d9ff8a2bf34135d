"""The data that runs need: looked after by processes of the experiments' own, started from here.

An experiment may have two modules for it, started as `python -m experiments.<name>.<module>`:

    prepare   download, unpack and index its data sets
    check     say in a moment whether what runs need is there: exit 0, or a message and 2
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from merge.errors import UsageError
from merge.records.sweep import Run

_FLAGS = {"dataset": "--datasets", "protocol": "--protocols", "mask_variant": "--mask-variants"}
"""Configuration value -> the flag that hands it on."""

_GENERATED = "shapes5i"
"""The data set that is made on first use: nothing of it can be missing."""


def prepare_words(runs: Sequence[Run]) -> list[str]:
    """The module that prepares the data of `runs`, and the words that say which data.

    UsageError where the study trains with a command, or its experiment cannot prepare data.
    """
    names = sorted({run.experiment for run in runs if run.experiment})
    for name in names:
        if _has_module(name, "prepare"):
            return [f"experiments.{name}.prepare", *_words(runs, ("dataset", "mask_variant"))]
    raise UsageError(
        "there is nothing to prepare: this study trains with a command or an experiment that looks "
        "after its own data"
    )


def check_data(runs: Iterable[Run], data_root: Path | None) -> int:
    """0 where the data of `runs` is there, else the code of the check, which has said what is not.

    One process for all runs; none where they bring their own command or need no data root.
    """
    needing = [run for run in runs if run.experiment and run.config.get("dataset") != _GENERATED]
    for name in sorted({run.experiment for run in needing if run.experiment}):
        if _has_module(name, "check"):
            ours = [run for run in needing if run.experiment == name]
            words = [*_words(ours, ("dataset", "protocol")), *root_words(data_root)]
            code = start([f"experiments.{name}.check", *words]).returncode
            if code:
                return code
    return 0


def root_words(data_root: Path | None) -> list[str]:
    return [] if data_root is None else ["--data-root", str(data_root)]


def start(words: Sequence[str], *, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of our modules to its end; its errors go to stderr as they are."""
    return subprocess.run(
        [sys.executable, "-m", *words], env=_environment(), stdout=stdout, text=True, check=False
    )


def become(words: Sequence[str]) -> NoReturn:
    """Replace this process by one of our modules: it gets the signals, and none is left over."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", *words], _environment())


def _environment() -> dict[str, str]:
    from orchestrator.machine.own_modules import import_variables, source_root

    return {**os.environ, **import_variables(os.environ, source_root())}


def _words(runs: Iterable[Run], keys: Sequence[str]) -> list[str]:
    configs = [run.config for run in runs]
    words: list[str] = []
    for key in keys:
        values = sorted({str(config[key]) for config in configs if key in config})
        words += [_FLAGS[key], *values] if values else []
    return words


def _has_module(experiment: str, module: str) -> bool:
    # Looked for as a file: the control plane never imports the data plane.
    from orchestrator.studies.options import EXPERIMENTS

    folder = EXPERIMENTS / experiment
    return (folder / f"{module}.py").exists() or (folder / module / "__main__.py").exists()
