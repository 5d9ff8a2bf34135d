"""Which files a snapshot of the code holds: papergrid's packages, and a git checkout.

Of the checkout what git does not ignore, and what counts as code of the runs, ignored or not.

What is no code, or would run from its own place instead of from the copy, is refused.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from merge.errors import UsageError
from merge.records.sweep import Run
from merge.wording import size_text
from orchestrator.plan.code_version import experiment_sources
from orchestrator.plan.command_sources import command_sources, is_script, named_sources
from orchestrator.studies.experiment import MANIFEST_FILE, is_folder, read_experiment

# A checkout of code is far smaller; more means data that .gitignore does not name.
LARGEST_BYTES = 256 * 2**20
MOST_FILES = 20_000

_SOURCE = Path(__file__).resolve().parent.parent.parent
_PACKAGES = ("experiments", "merge", "orchestrator", "replicate")
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Tree:
    """Files to copy: their root, and their names below it with `/`."""

    root: Path
    names: tuple[str, ...]


def trees_of(
    run: Run, cwd: Path, output: Path, named: Sequence[str] | None = None
) -> tuple[dict[str, Tree], str | None]:
    """The trees to copy for the study of `run`, and `cwd` below the root of its checkout.

    The trees are `papergrid` and, if runs need files from `cwd`, `work`; else the second value is
    None. `named` is what the study says is code. UsageError where it is not known which files are
    code, where there are too many, or where code that the study names cannot be copied.
    """
    trees = {"papergrid": Tree(_SOURCE, tuple(_package_files()))}
    relative = None
    words = _words_from_cwd(run, cwd)
    if words is not None or named:
        checkout = _checkout(cwd, output)
        added = _counted_as_code(run, cwd, named, checkout, output)
        trees["work"] = Tree(checkout.root, tuple(sorted({*checkout.names, *added})))
        relative = cwd.resolve().relative_to(checkout.root).as_posix()
        _check_words(words or (), cwd, checkout)
    for tree in trees.values():
        _refuse_bulk(tree)
        _refuse_absolute_links(tree)
    return trees, relative


def _package_files() -> Iterator[str]:
    for package in _PACKAGES:
        for path in sorted((_SOURCE / package).rglob("*")):
            # Compiled modules hold time stamps: the digest of the same source would change.
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(_SOURCE).as_posix()


def _checkout(cwd: Path, output: Path) -> Tree:
    """The git checkout that `cwd` lies in, without what lies in the output folder."""
    root = Path(_git(cwd, "rev-parse", "--show-toplevel")[0])
    left_out = output.resolve()
    names = [
        name for name in _listed(root, "") if not (root / name).resolve().is_relative_to(left_out)
    ]
    return Tree(root, tuple(sorted(names)))


def _listed(root: Path, prefix: str) -> Iterator[str]:
    folder = root / prefix
    words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    # git lists a file with a merge conflict once for each side.
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


def _check_words(words: Sequence[str], cwd: Path, checkout: Tree) -> None:
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


def _counted_as_code(
    run: Run, cwd: Path, named: Sequence[str] | None, checkout: Tree, output: Path
) -> set[str]:
    """What of the checkout counts as code of `run`, also where git ignores it.

    UsageError where the study names code that cannot be copied, or would bypass the copy.
    """
    found = named_sources(named or (), cwd)
    for name, path in found.items():
        _check_named(name, path, cwd, checkout, output)
    if run.command:
        imported = command_sources(run.command, cwd, named)
        # Words are refused where git ignores them: a word may name data as well as code.
        found |= {name: path for name, path in imported.items() if name not in run.command}
    names: set[str] = set()
    for path in found.values():
        place = path.resolve()
        if place.is_relative_to(checkout.root) and not place.is_relative_to(output.resolve()):
            names |= {place.relative_to(checkout.root).as_posix(), *_links_to(path, checkout)}
    return names


def _check_named(name: str, path: Path, cwd: Path, checkout: Tree, output: Path) -> None:
    place = path.resolve()
    problem = ""
    if not place.is_relative_to(checkout.root):
        problem = (
            f"{name} lies outside of the checkout {checkout.root}, so that it is not copied: move "
            f"it there, or leave --snapshot out"
        )
    elif place.is_relative_to(output.resolve()):
        problem = f"{name} lies in the output folder, so that it is not copied: move it elsewhere"
    elif Path(name).is_absolute():
        problem = _run_in_place(name, cwd)
    if problem:
        raise UsageError(f"--snapshot: `code:` of the study: {problem}")


def _links_to(path: Path, checkout: Tree) -> Iterator[str]:
    """The links in the checkout by which `path` leads to its file."""
    for part in (path, *path.parents):
        if part.is_symlink() and part.parent.resolve().is_relative_to(checkout.root):
            yield _named(part, checkout)


def _named(path: Path, checkout: Tree) -> str:
    folder = path.parent.resolve()
    return PurePosixPath(folder.relative_to(checkout.root), path.name).as_posix()


def _refuse_bulk(tree: Tree) -> None:
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


def _refuse_absolute_links(tree: Tree) -> None:
    """Links to data elsewhere are kept; one into the tree by a full path leads past the copy."""
    for name in tree.names:
        link = tree.root / name
        if link.is_symlink() and link.readlink().is_relative_to(tree.root):
            raise UsageError(f"--snapshot: {link} links to {link.readlink()}: link relatively")
