"""Finding an experiment by its name or its folder, and importing its parts."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merge.errors import UsageError

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
        """The dataclass `Options` of its options.py; torch is not imported for it."""
        kind: type = importlib.import_module(f"{self.package}.options").Options
        return kind

    @property
    def open_task(self) -> Callable[[Any, RunContext], Task]:
        """The function `open_task(options, context)` of its task.py."""
        opener: Callable[[Any, RunContext], Task]
        opener = importlib.import_module(f"{self.package}.task").open_task
        return opener


def find_experiment(name_or_folder: str, cwd: Path) -> Experiment:
    """The experiment of that name in this package or, with a `/` in the text, in that folder.

    A folder is seen from `cwd`. UsageError where there is none, or where its name is taken.
    """
    if "/" in name_or_folder:
        folder = (cwd / name_or_folder).resolve()
        return Experiment(folder.name, folder, _package_at(folder))
    folder = EXPERIMENTS / name_or_folder
    if not (folder / "task.py").is_file():
        known = ", ".join(path.parent.name for path in sorted(EXPERIMENTS.glob("*/task.py")))
        raise UsageError(
            f"there is no experiment {name_or_folder!r}: the experiments are {known}; "
            "write a folder with a slash, such as ./myfolder"
        )
    return Experiment(name_or_folder, folder, f"experiments.{name_or_folder}")


def _package_at(folder: Path) -> str:
    """Make a folder outside of this package importable; the name that it has then."""
    if not (folder / "task.py").is_file():
        raise UsageError(f"{folder} is no experiment: it has no task.py")
    if not folder.name.isidentifier():
        raise UsageError(f"{folder}: the folder's name must be letters, digits and _, as Python's")
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
