"""How long a run was trained, over all of its attempts: the one answer of `status` and `plan`."""

from __future__ import annotations

from collections.abc import Iterable

from merge.errors import RecordError
from merge.records.elapsed import elapsed_s, is_duration
from merge.records.records import AttemptRecord, read_attempt
from merge.storage.atomic import is_temporary
from merge.storage.paths import RESERVED_NAMES, RESERVED_STARTS, AttemptPaths, RunPaths
from orchestrator.runs.progress import read_progress
from orchestrator.runs.stall import last_output, modified


def trained_s(paths: RunPaths, numbers: Iterable[int]) -> float:
    """Seconds that the attempts of these `numbers` took together; an unknown one counts as 0."""
    return sum(attempt_s(paths.attempt(number)) for number in numbers)


def resumable_s(paths: RunPaths) -> float:
    """Seconds of training that the run's next attempt goes on from; 0 without a checkpoint."""
    try:
        # Without one the next attempt begins anew, however long the others took.
        return trained_s(paths, paths.claim_numbers()) if _has_checkpoint(paths) else 0.0
    except (OSError, RecordError):
        return 0.0


def _has_checkpoint(paths: RunPaths) -> bool:
    # A command may keep its checkpoint anywhere in the run's folder.
    own = {name for name in paths.disk.names(paths.root) if not is_temporary(name)}
    others = {name for name in own - RESERVED_NAMES if not name.startswith(RESERVED_STARTS)}
    is_ours = paths.checkpoints.name in own
    return bool(others) or (is_ours and bool(paths.disk.names(paths.checkpoints)))


def attempt_s(files: AttemptPaths) -> float:
    """Seconds that an attempt took, or takes so far; 0 where nothing says how long."""
    try:
        record = read_attempt(files.record, files.disk)
    except (FileNotFoundError, RecordError):
        return 0.0
    seconds = elapsed_s(record.started, record.ended, record.seconds)
    if seconds is None and record.ended is None:
        # It goes on, or its executor was killed: its last output is how far it came.
        seconds = _by_output(files, record)
    return seconds or 0.0


def _by_output(files: AttemptPaths, record: AttemptRecord) -> float | None:
    progress = read_progress(files.events)
    if progress:
        by_event = elapsed_s(record.started, progress.time, progress.elapsed_s)
        if by_event is not None:
            return by_event
    # Both by the clock of the file system: the record is written when the attempt starts.
    begun, last = modified(files.record, files.disk), last_output(files)
    between = None if begun is None or last is None else last - begun
    return between if is_duration(between) else None
