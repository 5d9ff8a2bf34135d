"""Which files are the code of a `command:`: those it names, and what they import.

The modules that Python files import count, however deep, where they lie beside the script, in the
folder in which the command is started, in its `src`, in PYTHONPATH, or in a folder that a file
which changes `sys.path` names; what an environment has installed does not. Where the study names no
code (`code:`), what lies beside a script or in an imported package counts too: it may be imported
in ways that no search sees.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from merge.storage.paths import SweepPaths

CODE_SUFFIXES = (
    *(".py", ".pyx", ".pxd", ".sh", ".bash", ".zsh", ".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh"),
    *(".h", ".hpp", ".jl", ".R", ".r", ".lua", ".m", ".rs", ".go", ".java", ".js", ".ts", ".pl"),
)
_CONFIG_SUFFIXES = (".yaml", ".yml", ".toml", ".cfg", ".ini")
"""Of a folder that a study names as code, these count too: they are part of what is trained."""

# A word of a command may name a data file of many gigabytes, which must not be hashed.
LARGEST_FILE = 2**20
_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+([^#\n]*)|import[ \t]+([\w.,\t ]+))",
    re.MULTILINE,
)
_FOLDER_TEXT = re.compile(rb"""["']([A-Za-z0-9_./-]{1,200})["']""")
_NAMES = re.compile(r"\w+")
_NAMED_IN_SHELL = re.compile(r"[\w./-]+\.(?:py|sh|bash)\b")
_MODULE_IN_SHELL = re.compile(r"\s-m\s+([\w.]+)")
_SHELL = (".sh", ".bash", ".zsh")

Sources = dict[str, Path]


def command_sources(
    command: Sequence[str], cwd: Path, named: Sequence[str] | None = None
) -> Sources:
    """Path by name of each file that is code of `command`, as it is started in `cwd`.

    `named` is what the study says is code, seen from `cwd`; None where it does not say.
    """
    words = {word: cwd / word for word in _words(command) if is_script(cwd / word)}
    files = words if named is None else {**named_sources(named, cwd), **words}
    search = _Search(cwd, takes_folders=named is None)
    return {**search.found_from(command, files), **files}


def named_sources(named: Iterable[str], cwd: Path) -> Sources:
    """The files that a study names as code; of a folder those that look like code."""
    found: Sources = {}
    for name in named:
        path = cwd / name
        if path.is_dir():
            files = files_below(path, (*CODE_SUFFIXES, *_CONFIG_SUFFIXES))
            found |= {f"{name}/{file.relative_to(path).as_posix()}": file for file in files}
        elif path.is_file():
            found[name] = path
    return found


def files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files below `folder`, as far as they are its own.

    Left out: environments and caches (`.venv`), and output folders with their copies of code.
    """
    for root, names, files in os.walk(folder):
        names[:] = [
            name
            for name in names
            if not name.startswith(".")
            and name not in ("__pycache__", "node_modules")
            and not Path(root, name, SweepPaths.PLAN_NAME).exists()
            and not Path(root, name, "pyvenv.cfg").exists()
        ]
        yield from (Path(root, name) for name in files if name.endswith(suffixes))


def is_script(path: Path) -> bool:
    """Whether a word of a command that names `path` counts as code."""
    try:
        return path.is_file() and path.stat().st_size <= LARGEST_FILE
    # A word may be longer than a file's name may be, or hold what no name may hold.
    except (OSError, ValueError):
        return False


def _words(command: Sequence[str]) -> Iterator[str]:
    """Words that may name a file: `train.py`, of `--config=base.yaml` the part behind the `=`.

    Of a text for a shell (`bash -c "python train.py"`) each of its words.
    """
    for word in command:
        yield word
        if word.startswith("-") and "=" in word:
            yield word.partition("=")[2]
        if " " in word:
            yield from _shell_words(word)


def _shell_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


class _Search:
    """Follows names and imports from the files of a command, each file once."""

    def __init__(self, cwd: Path, *, takes_folders: bool) -> None:
        """`takes_folders`: what lies beside a script or a module counts, imported or not."""
        self._cwd = cwd
        self._takes_folders = takes_folders
        self._listed: dict[str, frozenset[str]] = {}
        self._found: dict[str, Path] = {}
        self._waiting: list[str] = []
        self._roots = [str(cwd), str(cwd / "src")]
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        self._roots += [str(cwd / path) for path in paths if path]

    def found_from(self, command: Sequence[str], files: Mapping[str, Path]) -> Sources:
        """What belongs to `command` beside its own `files`."""
        for word in _words(command):
            path = self._cwd / word
            # A word such as `{method}.py` names a file of each run, beside which the others lie.
            if path.suffix in CODE_SUFFIXES and "\0" not in word:
                self._add_beside(path)
                self._roots.append(str(path.parent))
        for module in _modules(command):
            self._follow(self._roots, module.split("."))
        own = {os.path.normpath(path) for path in files.values()}
        self._waiting += sorted(own)
        self._follow_all()
        return {
            os.path.relpath(place, self._cwd).replace(os.sep, "/"): path
            for place, path in self._found.items()
            if place not in own
        }

    def _follow_all(self) -> None:
        seen: set[str] = set()
        while self._waiting:
            place = self._waiting.pop()
            if place not in seen:
                seen.add(place)
                # Gone since its folder was listed, or not readable for this user: what
                # it imports is not known.
                with suppress(FileNotFoundError, PermissionError):
                    self._follow_file(Path(place))

    def _follow_file(self, path: Path) -> None:
        if path.suffix == ".py" or _is_python_script(path):
            self._add_roots(path)
            roots = [*self._roots, str(path.parent)]
            for level, parts in _imports(*_stamp(path)):
                above = path.parents[level - 1] if 0 < level <= len(path.parents) else path.parent
                self._follow([str(above)] if level else roots, parts)
        elif path.suffix in _SHELL:
            text = path.read_text(encoding="utf-8", errors="replace")
            for folder in (path.parent, self._cwd):
                for name in _NAMED_IN_SHELL.findall(text):
                    if is_script(folder / name):
                        self._add(os.path.normpath(folder / name))
                        self._add_beside(folder / name)
                        self._roots.append(str((folder / name).parent))
            for module in _MODULE_IN_SHELL.findall(text):
                self._follow([*self._roots, str(path.parent)], module.split("."))

    def _add_roots(self, path: Path) -> None:
        """Where `path` may let Python look for modules: `sys.path.insert(0, "lib")`."""
        texts = _texts_of_path(*_stamp(path))
        # `Path(__file__).parents[1]` names no folder.
        bases = (path.parent, path.parent.parent, self._cwd) if texts is not None else ()
        for base in bases:
            found = [os.path.normpath(base / text) for text in ("", *(texts or ()))]
            # Not of `Path`, which raises where a folder may not be looked into.
            folders = filter(os.path.isdir, found)
            self._roots += [each for each in folders if each not in self._roots]

    def _follow(self, roots: Sequence[str], parts: Sequence[str]) -> None:
        """Add the files of the module `parts` in each of `roots` that has it."""
        for root in dict.fromkeys(roots):
            folder = root
            for part in parts:
                names = self._names(folder)
                if f"{part}.py" in names:
                    self._add(os.path.normpath(f"{folder}/{part}.py"))
                if part not in names:
                    break
                folder = f"{folder}/{part}"
                if "__init__.py" in self._names(folder):
                    self._add(os.path.normpath(f"{folder}/__init__.py"))
                # Packages often look their modules up by name (a registry of models).
                self._add_all(folder, (".py",))

    def _add_beside(self, path: Path) -> None:
        # A shell script names what it starts; other languages load what lies beside.
        own = () if path.suffix in _SHELL else (path.suffix,)
        self._add_all(str(path.parent), (".py", *own))

    def _add_all(self, folder: str, suffixes: tuple[str, ...]) -> None:
        for name in self._names(folder) if self._takes_folders else ():
            if name.endswith(suffixes):
                self._add(os.path.normpath(f"{folder}/{name}"))

    def _add(self, place: str) -> None:
        if place not in self._found and is_script(Path(place)):
            self._found[place] = Path(place)
            self._waiting.append(place)

    def _names(self, folder: str) -> frozenset[str]:
        """Names in `folder`, listed once: a project has hundreds of imports."""
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder))  # noqa: PTH208
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]


def _modules(command: Sequence[str]) -> Iterator[str]:
    """What is started by name: of `python -m pkg.train` `pkg.train`."""
    for word in command:
        yield from _MODULE_IN_SHELL.findall(f" {word}")
    for before, word in pairwise(command):
        if before == "-m":
            yield word


def _is_python_script(path: Path) -> bool:
    """Whether a file without a suffix says in its first line that Python runs it."""
    if path.suffix:
        return False
    with path.open("rb") as file:
        line = file.readline(256)
    return line.startswith(b"#!") and b"python" in line


def _stamp(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4096)
def _texts_of_path(path: str, _changed_ns: int, _num_bytes: int) -> tuple[str, ...] | None:
    """Short texts in a file that changes `sys.path`, any of which may name a folder; else None."""
    source = Path(path).read_bytes()
    if b"sys.path" not in source:
        return None
    return tuple(dict.fromkeys(text.decode() for text in _FOLDER_TEXT.findall(source)))


@lru_cache(maxsize=4096)
def _imports(
    path: str, _changed_ns: int, _num_bytes: int
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Level (of a relative import) and dotted name of what a file imports, or may import.

    By its text, not parsed: a file with an error must not end a plan, and a name too many costs
    a look into a folder.
    """
    found: dict[tuple[int, tuple[str, ...]], None] = {}
    for dots, module, names, plain in _IMPORT.findall(Path(path).read_bytes()):
        for one in plain.decode("utf-8", "replace").split(","):
            parts = tuple(one.strip().split(" ")[0].split(".")) if one.strip() else ()
            found[0, parts] = None
        base = tuple(part for part in module.decode("utf-8", "replace").split(".") if part)
        for name in _NAMES.findall(names.decode("utf-8", "replace")) if dots or module else ():
            found[len(dots), (*base, name)] = None
        # `from . import (` goes on in the next line: what stands before it counts.
        if dots or base:
            found[len(dots), base] = None
    return tuple(key for key in found if key[1] or key[0])
