"""Finding an experiment by its name or its folder, and importing its parts."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merge.errors import UsageError
from merge.wording import hint

if TYPE_CHECKING:
    from experiments.runtime.run_context import RunContext
    from experiments.runtime.task import Task

EXPERIMENTS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Experiment:
    """A folder with `options.py` and `task.py`, importable as `package`."""

    name: str
    folder: Path
    package: str

    @property
    def options_type(self) -> type:
        """The dataclass `Options` of its options.py; torch is not imported for it.

        UsageError where the file cannot be imported or has no class of that name.
        """
        path = self.folder / "options.py"
        try:
            module = importlib.import_module(f"{self.package}.options")
        except Exception as error:  # the file is a person's own code
            raise UsageError(f"{path} cannot be imported: {_described(error, path)}") from error
        if not isinstance(getattr(module, "Options", None), type):
            raise UsageError(f"{path} has no class `Options`: declare the options in a dataclass")
        kind: type = module.Options
        return kind

    @property
    def open_task(self) -> Callable[[Any, RunContext], Task]:
        """The function `open_task(options, context)` of its task.py. UsageError: it has none."""
        path = self.folder / "task.py"
        if not path.is_file():
            raise UsageError(f"{self.folder} is no experiment: it has no task.py")
        module = importlib.import_module(f"{self.package}.task")
        if not callable(getattr(module, "open_task", None)):
            raise UsageError(
                f"{path} has no `open_task`: end it with `open_task = MyTask`, your subclass of "
                "Task, or define the function open_task(options, context)"
            )
        opener: Callable[[Any, RunContext], Task] = module.open_task
        return opener


def experiment_names() -> list[str]:
    """The experiments in this package, sorted."""
    found = sorted(path.parent.name for path in EXPERIMENTS.glob("*/options.py"))
    # The runtime declares the options that all experiments share.
    return [name for name in found if name != "runtime"]


def find_experiment(name_or_folder: str, cwd: Path) -> Experiment:
    """The experiment of that name in this package or, with a `/` in the text, in that folder.

    A folder is seen from `cwd`. UsageError where there is none, or where its name is taken.
    """
    if "/" in name_or_folder:
        folder = (cwd / name_or_folder).resolve()
        return Experiment(folder.name, folder, _package_at(folder))
    if name_or_folder not in experiment_names():
        raise UsageError(
            f"there is no experiment {name_or_folder!r} (a folder is written with a slash, such as "
            f"./myfolder){hint(name_or_folder, experiment_names())}"
        )
    folder = EXPERIMENTS / name_or_folder
    return Experiment(name_or_folder, folder, f"experiments.{name_or_folder}")


def _package_at(folder: Path) -> str:
    """Make a folder outside of this package importable; the name that it has then."""
    if not (folder / "options.py").is_file():
        raise UsageError(f"{folder} is no experiment: it has no options.py")
    if not folder.name.isidentifier():
        raise UsageError(
            f"{folder}: Python imports this folder: rename it with letters, digits and _ only"
        )
    # Last, so that a file beside the folder replaces no module that other code imports. Loader
    # processes that are started anew are given sys.path and find the package again.
    sys.path.append(str(folder.parent))
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(folder.name)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    # More than one place has the folder where Python was started beside it.
    if {Path(place).resolve() for place in places} != {folder}:
        raise UsageError(f"{folder}: Python has another module {folder.name!r}: rename the folder")
    return folder.name


def _described(error: Exception, path: Path) -> str:
    """The error on one line, with the line of the file in which it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    # A syntax error has no frame in the file; Python's text names its line.
    place = f"line {lines[-1]}: " if lines else ""
    return place + " ".join(traceback.format_exception_only(error)[-1].split())
