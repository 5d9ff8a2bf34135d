"""Frozen copies of the code: a run that waits in a queue uses the code of its submission.

A snapshot holds papergrid's packages and, for a study of a command or of an experiment outside of
papergrid, the git checkout of the folder in which runs are started: tracked files and those that
git does not ignore. It is named by a digest of its content, written once, and verified before it is
used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from merge.errors import RecordError, UnreadableError, UsageError
from merge.records.sweep import SCHEMA, Run
from merge.storage.atomic import publish_folder
from merge.storage.control_paths import SnapshotPaths
from merge.storage.json_files import read_json, write_json
from merge.storage.leftovers import remove_leftovers
from merge.storage.paths import SweepPaths
from merge.wording import size_text
from orchestrator.plan.code_version import code_version
from orchestrator.plan.snapshot_files import trees_of

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


def take_snapshot(
    output: Path, run: Run, cwd: Path, named: Sequence[str] | None = None
) -> Snapshot:
    """Copy the code that the study of `run` needs into the output folder, unless it is there.

    `cwd` is where its runs are started, `named` what the study says is code. UsageError where it
    is not known which files are code, where there are too many, or where code that the study names
    cannot be copied; StorageError where the copy cannot be written.
    """
    paths = SweepPaths(output)
    trees, relative = trees_of(run, cwd, output, named)

    def fill(folder: Path) -> str:
        files = {
            f"{part}/{name}": _copy(tree.root / name, folder / part / name)
            for part, tree in trees.items()
            for name in tree.names
        }
        return _describe(SnapshotPaths(folder), run, files, relative, cwd, named)

    remove_leftovers([paths.code])
    return load_snapshot(output, publish_folder(paths.code, fill).name)


def load_snapshot(output: Path, digest: str) -> Snapshot:
    """The snapshot `digest` of an output folder.

    RecordError where it is not whole, or not as it was written; UsageError where there is none.
    """
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"{digest!r} is not the name of a snapshot, which has 16 hex digits")
    paths = SweepPaths(output.resolve()).snapshot(digest)
    try:
        record = read_json(paths.record)
    except FileNotFoundError as error:
        raise UsageError(f"there is no snapshot {paths.root}: submit again with it") from error
    except UnreadableError:
        raise
    except RecordError as error:
        raise RecordError(f"{error}: {_MOVE_AWAY}") from error
    files = record.get("files")
    if not isinstance(files, dict) or not record.keys() >= {"cwd", "code", "told"}:
        raise RecordError(f"{paths.record} is not a record of a snapshot: {_MOVE_AWAY}")
    # Every file is read again: an edit in the copy would change the runs that still wait.
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
        # `told` is the key on disk since the first version.
        description=record["told"],
    )


def _describe(
    paths: SnapshotPaths,
    run: Run,
    files: Mapping[str, str],
    relative: str | None,
    cwd: Path,
    named: Sequence[str] | None,
) -> str:
    """Write the record of a copy and return its digest."""
    digest = sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]}\n".encode())
    # The same files started in another folder of the checkout are another snapshot.
    digest.update(f"{relative}\n".encode())
    name = digest.hexdigest()[:16]
    # The commit is that of the checkout, since the copy has no .git; the digest is that of the
    # copy, which is what runs.
    here = code_version(run, cwd=cwd, named=named)
    copied = code_version(
        run,
        paths.papergrid / "experiments",
        cwd=None if relative is None else paths.work / relative,
        named=named,
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


def _copy(source: Path, target: Path) -> str:
    """Copy a file or link and return what `_content` says of the copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # A link stays a link: what it leads to may be a data set of many gigabytes.
    shutil.copy2(source, target, follow_symlinks=False)
    content = _content(target)
    assert content is not None
    return content


def _content(path: Path) -> str | None:
    """Digest, kind and mode of a file or link; None where it is gone."""
    try:
        if path.is_symlink():
            return f"link {path.readlink()}"
        # Only the executable bit, as git keeps it: the rest depends on the umask of who copied.
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        return f"{mode} {sha256(path.read_bytes()).hexdigest()}"
    except FileNotFoundError:
        return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
