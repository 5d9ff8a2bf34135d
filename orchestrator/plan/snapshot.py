"""Frozen copies of the code: what waits in a queue runs what was there when it was sent.

A snapshot holds papergrid's packages and, for a study of a command or of an experiment outside of
papergrid, the git checkout of the folder in which runs are started: tracked files and those that
git does not ignore. It is named by a digest of its content, written once, and verified before it is
used.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from merge.errors import RecordError, UsageError
from merge.records.sweep import SCHEMA, Run
from merge.storage.atomic import publish_folder
from merge.storage.control_paths import SnapshotPaths
from merge.storage.json_files import read_json, write_json
from merge.storage.leftovers import remove_leftovers
from merge.storage.paths import SweepPaths
from merge.wording import size_text
from orchestrator.plan.code_version import code_version, experiment_sources, is_script
from orchestrator.studies.experiment import MANIFEST_FILE, is_folder, read_experiment

LARGEST_BYTES = 256 * 2**20
MOST_FILES = 20_000

_SOURCE = Path(__file__).resolve().parent.parent.parent
_PACKAGES = ("experiments", "merge", "orchestrator", "replicate")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_MOST_NAMED = 3
_MOVE_AWAY = "move its folder away and submit again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A frozen copy of the code, verified."""

    digest: str
    source: Path
    """What papergrid's packages lie in."""
    cwd: Path | None
    """Where runs are started; None where the study needs no files but papergrid's."""
    code: Mapping[str, Any]
    """The version that attempts made with it record."""
    description: str
    """What was copied, in words."""


@dataclass(frozen=True, slots=True)
class _Tree:
    """Files to copy: their root, and their names below it with `/`."""

    root: Path
    names: tuple[str, ...]


def take_snapshot(output: Path, run: Run, cwd: Path) -> Snapshot:
    """Copy the code that the study of `run` needs into the output folder, unless it is there.

    `cwd` is where its runs are started. UsageError where it is not known which files are code, or
    where there are too many; StorageError where the copy cannot be written.
    """
    paths = SweepPaths(output)
    trees = {"papergrid": _Tree(_SOURCE, tuple(_package_files()))}
    relative = None
    words = _words_from_cwd(run, cwd)
    if words is not None:
        checkout = _checkout(cwd, output)
        trees["work"] = checkout
        relative = cwd.resolve().relative_to(checkout.root).as_posix()
        _check_words(words, cwd, checkout)
    for tree in trees.values():
        _refuse_bulk(tree)
        _refuse_ways_back(tree)

    def fill(folder: Path) -> str:
        files = {
            f"{part}/{name}": _copy(tree.root / name, folder / part / name)
            for part, tree in trees.items()
            for name in tree.names
        }
        return _describe(SnapshotPaths(folder), run, files, relative, cwd)

    remove_leftovers([paths.code])
    return load_snapshot(output, publish_folder(paths.code, fill).name)


def load_snapshot(output: Path, digest: str) -> Snapshot:
    """The snapshot `digest` of an output folder.

    RecordError where it is not whole, or not as it was written; UsageError where there is none.
    """
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"{digest!r} names no snapshot: a name has 16 hex digits")
    paths = SweepPaths(output.resolve()).snapshot(digest)
    try:
        record = read_json(paths.record)
    except FileNotFoundError as error:
        raise UsageError(f"there is no snapshot {paths.root}: submit again with it") from error
    except RecordError as error:
        raise RecordError(f"{error}: {_MOVE_AWAY}") from error
    files = record.get("files")
    if not isinstance(files, dict) or not record.keys() >= {"cwd", "code", "told"}:
        raise RecordError(f"{paths.record} is no record of a snapshot: {_MOVE_AWAY}")
    changed = [name for name, content in files.items() if _content(paths.root / name) != content]
    if changed:
        raise RecordError(
            f"{paths.root} is no longer what was frozen ({_some(changed)} changed): {_MOVE_AWAY}"
        )
    cwd = record["cwd"]
    return Snapshot(
        digest=digest,
        source=paths.papergrid,
        cwd=None if cwd is None else paths.work / cwd,
        code=record["code"],
        description=record["told"],
    )


def _describe(
    paths: SnapshotPaths, run: Run, files: Mapping[str, str], relative: str | None, cwd: Path
) -> str:
    """Write the record of a copy and return its digest."""
    digest = sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]}\n".encode())
    digest.update(f"{relative}\n".encode())
    name = digest.hexdigest()[:16]
    here = code_version(run, cwd=cwd)
    copied = code_version(
        run,
        paths.papergrid / "experiments",
        cwd=None if relative is None else paths.work / relative,
    )
    code = {**here, "source": copied["source"], "snapshot": name}
    num_bytes = sum((paths.root / each).lstat().st_size for each in files)
    what = "papergrid"
    if relative is not None:
        what += f" and the checkout of the {'command' if run.command else 'experiment'}"
    record = {
        "schema": SCHEMA,
        "digest": name,
        "cwd": relative,
        "code": code,
        "told": f"{what}, {len(files)} files of {size_text(num_bytes)}",
        "files": dict(files),
    }
    write_json(paths.record, record)
    return name


def _package_files() -> Iterator[str]:
    for package in _PACKAGES:
        for path in sorted((_SOURCE / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(_SOURCE).as_posix()


def _checkout(cwd: Path, output: Path) -> _Tree:
    """The git checkout that `cwd` lies in, without what lies in the output folder."""
    root = Path(_git(cwd, "rev-parse", "--show-toplevel")[0])
    left_out = output.resolve()
    names = [
        name for name in _listed(root, "") if not (root / name).resolve().is_relative_to(left_out)
    ]
    return _Tree(root, tuple(sorted(names)))


def _listed(root: Path, prefix: str) -> Iterator[str]:
    folder = root / prefix
    words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in dict.fromkeys(_git(folder, *words)):
        path = folder / name
        if path.is_symlink() or path.is_file():
            yield f"{prefix}{name}"
        elif path.is_dir():
            # A submodule, or a checkout within the checkout: git lists only its folder.
            yield from _listed(root, f"{prefix}{name.rstrip('/')}/")


def _git(folder: Path, *words: str) -> list[str]:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise UsageError("--snapshot asks git which files are code: install git") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise UsageError(
            f"--snapshot: which files of {folder} are code is not known ({said}): make it a git "
            f"checkout (`git init`; no commit is needed) with data in its .gitignore"
        )
    try:
        text = done.stdout.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"--snapshot: {folder} has a file whose name is not UTF-8") from error
    return [name for name in re.split("\0" if "-z" in words else "\n", text) if name]


def _words_from_cwd(run: Run, cwd: Path) -> Sequence[str] | None:
    """What the study names as seen from `cwd`; None where all lies in papergrid's packages."""
    if run.command:
        return run.command
    if run.experiment is None or not is_folder(run.experiment):
        return None
    if Path(run.experiment).is_absolute():
        raise UsageError(f"--snapshot: {_run_in_place(run.experiment, cwd)}")
    experiment = read_experiment(run.experiment, cwd=cwd)
    files = [experiment.folder / MANIFEST_FILE]
    files += [path for _, path in experiment_sources(experiment)]
    return [str(path.relative_to(cwd)) for path in files if experiment.folder in path.parents]


def _run_in_place(word: str, cwd: Path) -> str:
    return f"{word} would be run where it lies, not from the copy: write it relative to {cwd}"


def _check_words(words: Sequence[str], cwd: Path, checkout: _Tree) -> None:
    """Refuse what a study names in words that would bypass the copy, or is not in it."""
    for word in words:
        path = cwd / word
        if not is_script(path):
            continue
        place = path.resolve()
        if Path(word).is_absolute():
            if place.is_relative_to(checkout.root):
                raise UsageError(f"--snapshot: {_run_in_place(word, cwd)}")
        elif not place.is_relative_to(checkout.root):
            raise UsageError(f"--snapshot: {word} lies outside of the checkout {checkout.root}")
        elif _named(path, checkout) not in checkout.names:
            raise UsageError(
                f"--snapshot: {word} is ignored by git or lies in the output folder, so that it "
                f"is not copied: take it out of .gitignore"
            )


def _named(path: Path, checkout: _Tree) -> str:
    folder = path.parent.resolve()
    return PurePosixPath(folder.relative_to(checkout.root), path.name).as_posix()


def _refuse_bulk(tree: _Tree) -> None:
    sizes = {name: (tree.root / name).lstat().st_size for name in tree.names}
    if sum(sizes.values()) <= LARGEST_BYTES and len(sizes) <= MOST_FILES:
        return
    by_top: dict[str, int] = {}
    for name, size in sizes.items():
        top = name.split("/")[0]
        by_top[top] = by_top.get(top, 0) + size
    largest = sorted(by_top, key=lambda top: -by_top[top])[:_MOST_NAMED]
    found = size_text(sum(sizes.values()))
    named = ", ".join(f"{top} ({size_text(by_top[top])})" for top in largest)
    raise UsageError(
        f"--snapshot: {tree.root} has {len(sizes)} files of {found} that git does not ignore, at "
        f"most {MOST_FILES} of {size_text(LARGEST_BYTES)} are copied; the largest: {named}; put "
        f"data and outputs into .gitignore"
    )


def _refuse_ways_back(tree: _Tree) -> None:
    """Links to data elsewhere are kept; one into the tree by a full path leads past the copy."""
    for name in tree.names:
        link = tree.root / name
        if link.is_symlink() and link.readlink().is_relative_to(tree.root):
            raise UsageError(f"--snapshot: {link} links to {link.readlink()}: link relatively")


def _copy(source: Path, target: Path) -> str:
    """Copy a file or link and return what `_content` says of the copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)
    content = _content(target)
    assert content is not None
    return content


def _content(path: Path) -> str | None:
    """Digest, kind and mode of a file or link; None where it is gone."""
    try:
        if path.is_symlink():
            return f"link {path.readlink()}"
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        return f"{mode} {sha256(path.read_bytes()).hexdigest()}"
    except FileNotFoundError:
        return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
