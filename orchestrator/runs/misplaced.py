"""A `result.json` that a command wrote into its run's folder instead of its attempt's.

It would keep the run from ever being finished: the run's own result is created exclusively.
"""

from __future__ import annotations

from pathlib import Path

from merge.errors import RecordError, StorageError
from merge.records.result import MisplacedResultError, read_result
from merge.storage.atomic import move_into_place
from merge.storage.json_files import parse_json
from merge.storage.nfs import read_whole
from merge.storage.paths import RunPaths


def set_misplaced_aside(paths: RunPaths, number: int, *, is_new: bool = False) -> Path | None:
    """Move the run's result.json into the folder of attempt `number`, where it is misplaced.

    Returns its path there. `is_new`: it was not there when the attempt began, so that one which is
    no JSON is the command's too; at any other time it may be a result that was damaged.
    StorageError where it cannot be moved.
    """
    if not paths.has_result() or not _is_misplaced(paths, is_new=is_new):
        return None
    kept = paths.attempt(number).misplaced_result
    move_into_place(paths.result, kept)
    return kept


def misplaced_text(kept: Path) -> str:
    """What a person is to do about a misplaced result that was moved to `kept`."""
    place = "/".join(kept.parts[-3:])
    return (
        "it wrote result.json into $PAPERGRID_RUN_DIR: let it write into $PAPERGRID_ATTEMPT_DIR, "
        f"then run the same command again (the file does not count and is kept as {place})"
    )


def _is_misplaced(paths: RunPaths, *, is_new: bool) -> bool:
    try:
        read_result(paths.result, paths.disk)
    except MisplacedResultError:
        return True
    except RecordError:
        return is_new and _is_no_json(paths)
    except FileNotFoundError:
        pass
    return False


def _is_no_json(paths: RunPaths) -> bool:
    """Whether the run's result.json was read and is no JSON, or is no file at all."""
    if not paths.result.is_file():
        return True
    try:
        data = read_whole(paths.result, paths.disk)
    # It may be the result of another user, or of a disk that fails now.
    except (OSError, StorageError):
        return False
    try:
        parse_json(paths.result, data)
    except RecordError:
        return True
    return False
