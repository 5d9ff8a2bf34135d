"""Which code makes the numbers: a digest of a run's sources, and the commit that they lie in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NotRequired, TypedDict

from merge.records.sweep import Run
from merge.storage.paths import SweepPaths
from orchestrator.studies.experiment import Experiment, read_experiment
from orchestrator.studies.options import EXPERIMENTS, OPTIONS_FILE
from orchestrator.studies.study import Study

_GIT_TIMEOUT_S = 10.0
# A word of a command may name a data file of many gigabytes, which must not be hashed.
_LARGEST_SCRIPT = 2**20
_STATISTICS = "merge/results/statistics.py"


class CodeVersion(TypedDict):
    """What a plan and a result record about the code."""

    version: str | None
    """Of papergrid; None where it is not installed."""
    source: str
    """16 hex digits over the files that compute the numbers."""
    git_commit: str | None
    """None outside of a git checkout, or where git is absent."""
    git_dirty: bool | None
    """Whether these files differ from that commit."""
    git_diff: str | None
    """16 hex digits over how they differ; None where they do not."""
    snapshot: NotRequired[str]
    """The frozen copy that was run, where it was one."""


def code_version(
    study: Study | Run, experiments_folder: Path = EXPERIMENTS, cwd: Path | None = None
) -> CodeVersion:
    """The version of the code that `study`, or one run of its plan, runs.

    Of an experiment: its folder, the shared folders that its manifest names, and the files that
    turn counts into its metric. Of a command: those of its words that name files of at most 1 MiB
    (larger ones are data), as seen from `cwd` (default: the current folder). StudyError where the
    experiment is not there.
    """
    folder = cwd or Path.cwd()
    if study.command is not None:
        sources = {word: folder / word for word in study.command if is_script(folder / word)}
        places = [folder]
    else:
        assert study.experiment is not None
        experiment = read_experiment(study.experiment, experiments_folder, cwd)
        sources = dict(experiment_sources(experiment))
        folder, places = experiment.folder, _places(experiment)
    commit, is_dirty = _git_state(folder, places)
    words = ("diff", "HEAD", "--binary", "--")
    # Two attempts at one commit need not have run the same code: their uncommitted changes
    # distinguish them.
    changes = _git_bytes(folder, *words, *map(str, places)) if is_dirty else None
    return CodeVersion(
        version=installed_version(),
        source=_digest(sources),
        git_commit=commit,
        git_dirty=is_dirty,
        git_diff=None if changes is None else sha256(changes).hexdigest()[:16],
    )


def code_differs(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    """What differs between two code versions, a line each; empty where numbers agree by code.

    A commit alone is no difference: it may have changed nothing that computes numbers.
    """
    return tuple(
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in ("version", "source")
        if old.get(key) != new.get(key)
    )


def experiment_sources(experiment: Experiment) -> Iterator[tuple[str, Path]]:
    """Name and path of each file that computes the numbers of `experiment`.

    Names do not depend on where papergrid or the folder lies: hosts compare digests.
    """
    own = experiment.folder
    prefix = own.name if experiment.is_built_in else "experiment"
    # The manifest is left out: its words are shown beside numbers, and change none.
    for path in (*_python_files(own), own / OPTIONS_FILE):
        yield f"{prefix}/{path.relative_to(own).as_posix()}", path
    for name in experiment.code:
        for path in (experiment.shared / name).rglob("*.py"):
            yield path.relative_to(experiment.shared).as_posix(), path
    # The runtime takes a metric's mean over test lists from there, for every experiment.
    for name in (_STATISTICS, *experiment.result_code):
        yield f"../{name}", experiment.shared.parent / name


def _python_files(folder: Path) -> Iterator[Path]:
    """Sources below `folder`, as far as they are its own.

    Left out: environments and caches (`.venv`), and output folders with their copies of code.
    """
    for root, names, files in os.walk(folder):
        names[:] = [
            name
            for name in names
            if not name.startswith(".")
            and not Path(root, name, SweepPaths.PLAN_NAME).exists()
            and not Path(root, name, "pyvenv.cfg").exists()
        ]
        yield from (Path(root, name) for name in files if name.endswith(".py"))


def is_script(path: Path) -> bool:
    """Whether a word of a command that names `path` counts as code."""
    return path.is_file() and path.stat().st_size <= _LARGEST_SCRIPT


def _places(experiment: Experiment) -> list[Path]:
    """What git is asked about: the experiment's code, as far as it lies in the same checkout."""
    folder = experiment.folder.resolve()
    shared = [experiment.shared / name for name in experiment.code]
    files = [experiment.shared.parent / name for name in experiment.result_code]
    top = _git(folder, "rev-parse", "--show-toplevel")
    root = Path(top.rstrip("\n")) if top else folder
    found = [path.resolve() for path in (*shared, *files)]
    # A folder outside of papergrid lies in another checkout: git refuses foreign paths.
    return [folder, *(path for path in found if path.is_relative_to(root))]


def _digest(sources: Mapping[str, Path]) -> str:
    digest = sha256()
    # Sorted, and with the content's hash after each name: the order in which a file system lists
    # files must not matter.
    for name in sorted(sources):
        digest.update(f"{name}\0{sha256(sources[name].read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def installed_version() -> str | None:
    """Papergrid's version; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("papergrid")
    except PackageNotFoundError:
        return None


def _git_state(folder: Path, places: Sequence[Path]) -> tuple[str | None, bool | None]:
    words = [str(path) for path in places]
    # A folder that git ignores, such as site-packages in a checkout, has no commit of its own.
    if not _git(folder, "ls-files", "--", "."):
        return None, None
    # One call gives commit and changes; each start of git costs some milliseconds.
    status = _git(folder, "status", "--porcelain=v2", "--branch", "--", *words)
    if status is None:
        return None, None
    lines = status.splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    # A repository without a commit.
    if not commits or commits[0] == "(initial)":
        return None, None
    return commits[0], any(not line.startswith("#") for line in lines)


def _git(folder: Path, *words: str) -> str | None:
    answer = _git_bytes(folder, *words)
    # Names of files need not be UTF-8, nor what changed in them.
    return None if answer is None else answer.decode("utf-8", "replace")


def _git_bytes(folder: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
            # Reading the state must not take the index lock from the person who works there.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
