"""Where derived data lies on this host: indexes, generated data, features."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from merge.errors import UsageError


def cache_folder(named: str | Path | None) -> Path:
    """The folder for derived data: `named`, else the user's."""
    if named is not None:
        return Path(named).absolute()
    if from_environment := os.environ.get("PAPERGRID_CACHE_DIR"):
        return Path(from_environment).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "papergrid"
    try:
        return Path.home() / ".cache" / "papergrid"
    # A user id without an entry in the password file, and no HOME: as in containers.
    except RuntimeError:
        return _own_temporary_folder()


def _own_temporary_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"papergrid-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Anybody may make a folder of any name there.
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
        raise UsageError(f"{folder} belongs to another user: name a cache folder with --cache-dir")
    return folder
