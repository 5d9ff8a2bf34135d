"""Which code makes the numbers: a digest of a run's sources, and the commit that they lie in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NotRequired, TypedDict

from merge.records.sweep import Run
from orchestrator.plan.command_sources import (
    CODE_SUFFIXES,
    Sources,
    command_sources,
    files_below,
    named_sources,
)
from orchestrator.studies.experiment import MANIFEST_FILE, Experiment, read_experiment
from orchestrator.studies.options import EXPERIMENTS, OPTIONS_FILE
from orchestrator.studies.study import Study

_GIT_TIMEOUT_S = 10.0
_EXCLUDED = (f":(exclude,glob)**/{MANIFEST_FILE}", ":(exclude,glob)**/*.md")
_GLOB_SIGN = re.compile(r"[*?\[\\]")
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
    study: Study | Run,
    experiments_folder: Path = EXPERIMENTS,
    cwd: Path | None = None,
    *,
    named: Sequence[str] | None = None,
) -> CodeVersion:
    """The version of the code that `study`, or one run of its plan, runs.

    `named` is what the study says is code (`code:`), as its plan has it; of a `Study` it is known.
    StudyError where the experiment is not there.
    """
    folder = cwd or Path.cwd()
    code_files = study.code_files if isinstance(study, Study) else named
    sources = sources_of(study, experiments_folder, folder, code_files)
    git_folder, places = _git_places(study, experiments_folder, folder, sources, code_files)
    commit, is_dirty = _git_state(git_folder, places)
    words = ("diff", "HEAD", "--binary", "--")
    # Two attempts at one commit need not have run the same code: their uncommitted changes
    # distinguish them.
    changes = _git_bytes(git_folder, *words, *places) if is_dirty else None
    return CodeVersion(
        version=installed_version(),
        source=_digest(sources),
        git_commit=commit,
        git_dirty=is_dirty,
        git_diff=None if changes is None else sha256(changes).hexdigest()[:16],
    )


def sources_of(
    study: Study | Run, experiments_folder: Path, cwd: Path, named: Sequence[str] | None
) -> Sources:
    """The files that compute the numbers, by a name that does not depend on where they lie.

    Of an experiment: its folder, the shared folders that its manifest names, the files that turn
    counts into its metric, and what the study names. Of a command: see `command_sources`.
    """
    if study.command is not None:
        return command_sources(study.command, cwd, named)
    assert study.experiment is not None
    experiment = read_experiment(study.experiment, experiments_folder, cwd)
    return {**named_sources(named or (), cwd), **dict(experiment_sources(experiment))}


def _git_places(
    study: Study | Run,
    experiments_folder: Path,
    cwd: Path,
    sources: Sources,
    named: Sequence[str] | None,
) -> tuple[Path, list[str]]:
    """The folder whose checkout is asked, and patterns of what counts there as code.

    Of a command without `named` all code below `cwd`: what it imports may be found in ways that no
    search knows.
    """
    if study.experiment is not None:
        experiment = read_experiment(study.experiment, experiments_folder, cwd)
        places = [f":(literal){place}" for place in _places(experiment)]
        # Words that are shown beside numbers, and change none.
        return experiment.folder, [*places, *_EXCLUDED]
    if named is not None and sources:
        return cwd, _patterns(_in_checkout(cwd, list(sources.values()))) or _patterns([cwd])
    outside = [
        path for path in sources.values() if not path.resolve().is_relative_to(cwd.resolve())
    ]
    scripts = [path for path in outside if path.suffix in CODE_SUFFIXES]
    # A script that lies elsewhere is of the checkout there.
    folder = scripts[0].resolve().parent if scripts and len(outside) == len(sources) else cwd
    return folder, _patterns([folder])


def _patterns(places: Sequence[Path]) -> list[str]:
    """What git takes for `places`: a file itself, the code files below a folder."""
    patterns: list[str] = []
    for place in places:
        if place.is_dir():
            folder = _GLOB_SIGN.sub(r"\\\g<0>", str(place.resolve()))
            # A study file or notes beside the code may change without any number changing.
            patterns += [f":(glob){folder}/**/*{suffix}" for suffix in CODE_SUFFIXES]
        else:
            patterns.append(f":(literal){place}")
    return patterns


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
    for path in (*files_below(own, (".py",)), own / OPTIONS_FILE):
        yield f"{prefix}/{path.relative_to(own).as_posix()}", path
    for name in experiment.code:
        for path in (experiment.shared / name).rglob("*.py"):
            yield path.relative_to(experiment.shared).as_posix(), path
    # The runtime takes a metric's mean over test lists from there, for every experiment.
    for name in (_STATISTICS, *experiment.result_code):
        yield f"../{name}", experiment.shared.parent / name


def _places(experiment: Experiment) -> list[Path]:
    """What git is asked about of an experiment's code."""
    shared = [experiment.shared / name for name in experiment.code]
    files = [experiment.shared.parent / name for name in experiment.result_code]
    return _in_checkout(experiment.folder, [experiment.folder, *shared, *files])


def _in_checkout(folder: Path, places: Sequence[Path]) -> list[Path]:
    """Those of `places` that lie in the checkout of `folder`: git refuses foreign paths."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    root = Path(top.rstrip("\n")) if top else folder.resolve()
    return [path for place in places if (path := place.resolve()).is_relative_to(root)]


def _digest(sources: Mapping[str, Path]) -> str:
    digest = sha256()
    # Sorted, and with the content's hash after each name: the order in which a file system lists
    # files must not matter.
    for name in sorted(sources):
        digest.update(f"{name}\0{_content(sources[name])}\n".encode())
    return digest.hexdigest()[:16]


def _content(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    # An editor replaces a file by another one, and it may be gone since the folder was listed.
    except FileNotFoundError:
        return "absent"
    # A colleague's private file beside a script, or a program that may only be started.
    except PermissionError:
        return "unreadable"


def installed_version() -> str | None:
    """Papergrid's version; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("papergrid")
    except PackageNotFoundError:
        return None


def _git_state(folder: Path, places: Sequence[str]) -> tuple[str | None, bool | None]:
    # A folder that git ignores, such as site-packages in a checkout, has no commit of its own.
    if not _git(folder, "ls-files", "--", "."):
        return None, None
    # One call gives commit and changes; each start of git costs some milliseconds.
    status = _git(folder, "status", "--porcelain=v2", "--branch", "--", *places)
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
