"""Check that runs have what they need: `python -m experiments.runtime.check NAME_OR_FOLDER`.

`replicate` starts it before any run starts. It reads one JSON object from stdin, `configs` (a list
of configurations), `data_root`, `weights`, `cache_dir` (paths or null) and `quick` (may be left
out), and prints one JSON object a line for each problem: `about`, `message`, `fix`; at its end
{"checked": true}. No torch is imported unless an experiment's own code does so, and what that
prints goes to stderr.

An experiment adds its data and weights by a module `check.py` with a function

    problems(configs: Sequence[Mapping[str, Any]], places: Places) -> Iterable[Problem]
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from experiments.runtime.experiment import EXPERIMENTS, Experiment, find_experiment
from experiments.runtime.options import build, flat
from experiments.runtime.training_options import refuse_long_warm_up
from merge.errors import PapergridError, UsageError
from merge.records.options import UnfitError

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "PIL", "tensorboard")
"""What every training imports."""
_CHECK_FILE = "check.py"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a run needs and lacks."""

    about: str
    """What lacks it: a data set, a backbone, `packages`."""
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where this machine has data, weights and derived files; None where a flag is not given."""

    data_root: Path | None
    weights: Path | None
    cache_dir: Path
    is_quick: bool = False
    """Whether a person waits for many machines: leave out what may take minutes."""


def tried(about: str, fix: str, action: Callable[[], object]) -> Iterator[Problem]:
    """The problem that `action` meets, where it meets one: for the checks of experiments."""
    try:
        action()
    # OSError: a file or folder that this user may not read.
    except (PapergridError, OSError) as error:
        yield Problem(about, str(error), fix)


def main(words: Sequence[str], source: TextIO, target: TextIO) -> int:
    """Print every problem of the runs described in `source`; the exit code is 0 all the same.

    PapergridError where there is no such experiment.
    """
    request = json.load(source)
    places = Places(
        data_root=_path(request["data_root"]),
        weights=_path(request["weights"]),
        cache_dir=Path(request["cache_dir"]),
        is_quick=request.get("quick", False),
    )
    for problem in find_problems(find_experiment(words[0], Path.cwd()), request["configs"], places):
        print(json.dumps(asdict(problem)), file=target, flush=True)
    print(json.dumps({"checked": True}), file=target, flush=True)
    return 0


def find_problems(
    experiment: Experiment, configs: Sequence[Mapping[str, Any]], places: Places
) -> Iterator[Problem]:
    """The problems of runs with these configurations, in the order in which they are found."""
    packages = list(_missing_packages())
    yield from packages
    impossible = list(_impossible_values(experiment, configs))
    yield from impossible
    if impossible:
        return
    for problem in _own_problems(experiment, configs, places):
        # Without packages the check may not even be importable: that is one problem, not two.
        if not (packages and problem.about == _CHECK_FILE):
            yield problem
    # A person's own code may be imported here for the first time; ours is tested.
    if not packages and not experiment.folder.is_relative_to(EXPERIMENTS):
        yield from _broken_task(experiment)


def _impossible_values(
    experiment: Experiment, configs: Sequence[Mapping[str, Any]]
) -> Iterator[Problem]:
    """Values of one configuration that do not go together: each alone is checked by the study."""
    try:
        kind = experiment.options_type
    except Exception:  # noqa: BLE001 (a person's own code; what needs it says so with its line)
        return
    found: dict[str, None] = {}
    for config in configs:
        try:
            values: Any = flat(cast(Any, build(kind, config, experiment.name)))
            if "warmup_epochs" in values:
                refuse_long_warm_up(values["warmup_epochs"], values["epochs"], "the training")
        except UsageError as error:
            # A name or a single value that does not fit was refused with the study.
            if not isinstance(error.__cause__, UnfitError):
                found[str(error)] = None
    for message in found:
        yield Problem("options", message, "change them in the study, or with --set")


def _own_problems(
    experiment: Experiment, configs: Sequence[Mapping[str, Any]], places: Places
) -> Iterator[Problem]:
    path = experiment.folder / _CHECK_FILE
    if not path.is_file():
        return
    try:
        module = importlib.import_module(f"{experiment.package}.check")
        yield from module.problems(configs, places)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a person's own code, may even exit)
        yield Problem(_CHECK_FILE, f"{path} failed: {_last_line(error)}", f"correct {path}")


def _broken_task(experiment: Experiment) -> Iterator[Problem]:
    try:
        _ = experiment.open_task
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a person's own code, may even exit)
        path = experiment.folder / "task.py"
        yield Problem("task.py", f"{path} cannot be used: {_last_line(error)}", f"correct {path}")


def _missing_packages() -> Iterator[Problem]:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        # The control plane adds how this installation gets them.
        yield Problem("packages", f"{', '.join(missing)} cannot be imported by {sys.executable}")


def _last_line(error: BaseException) -> str:
    if isinstance(error, PapergridError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return " ".join(traceback.format_exception_only(error)[-1].split()) + place


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _end_with_parent() -> None:
    """From now on this process ends when the one that started it does."""
    # A SIGTERM ends `replicate` at once, and a check may wait for a file server for ever.
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _own_stdout() -> TextIO:
    """This process's stdout; what else is printed, by other processes too, goes to stderr."""
    target = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return target


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    _end_with_parent()
    try:
        sys.exit(main(sys.argv[1:], sys.stdin, _own_stdout()))
    except PapergridError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
