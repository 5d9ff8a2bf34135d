"""The code of all attempts that a result was trained by: an attempt may continue an earlier one.

A trainer of ours continues from the run's checkpoint. Where a command keeps its state is not
known: an earlier attempt counts, unless it failed by itself and left nothing but our own records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.code import CODE_KEYS, is_same_code
from merge.records.records import AttemptRecord, Outcome, read_attempt
from merge.records.sweep import Run
from merge.storage.atomic import TEMPORARY_SUFFIX
from merge.storage.nfs import fresh_names
from merge.storage.paths import AttemptPaths, RunPaths, is_claim_or_request

EarlierCode = tuple[Mapping[str, Any], ...]
"""As in `Result.earlier_code`."""


def recorded_attempts(paths: RunPaths) -> tuple[AttemptRecord, ...]:
    """Every attempt at the run that left a readable record, of other hosts too, the oldest first.

    By their folders: claims of hosts that share only a bucket are not in this one.
    """
    numbers = sorted(int(name) for name in _names(paths, paths.attempts) if name.isdigit())
    found = []
    for number in numbers:
        with suppress(FileNotFoundError, RecordError):
            found.append(read_attempt(paths.attempt(number).record, paths.disk))
    return tuple(found)


def first_trained(run: Run, paths: RunPaths, past: Sequence[AttemptRecord], number: int) -> int:
    """The number of the first attempt whose training attempt `number` may continue.

    `number` itself where there is nothing to continue from. `past` are the attempts before it.
    """
    if not past:
        return number
    first = past[-1].trained_since or 1
    chain = [record for record in past if record.number >= first]
    return number if _leaves_nothing(run, paths, chain) else first


def earlier_code(past: Sequence[AttemptRecord], first: int, code: Mapping[str, Any]) -> EarlierCode:
    """Other code than `code` of the attempts from number `first` on, with their numbers."""
    found: list[dict[str, Any]] = []
    for record in past:
        if record.number < first or is_same_code(record.code, code):
            continue
        same = next((each for each in found if is_same_code(each, record.code)), None)
        if same is None:
            found.append({"attempts": [], **{key: record.code.get(key) for key in CODE_KEYS}})
        (same or found[-1])["attempts"].append(record.number)
    return tuple(found)


def _leaves_nothing(run: Run, paths: RunPaths, chain: Sequence[AttemptRecord]) -> bool:
    if run.experiment is not None:
        return not _names(paths, paths.checkpoints)
    if any(record.outcome is not Outcome.FAILED for record in chain):
        return False
    own = {paths.spec.name, paths.attempts.name, paths.checkpoints.name}
    left = [name for name in _names(paths, paths.root) if name not in own and not _is_ours(name)]
    attempts = (paths.attempt(record.number) for record in chain)
    return not (left or _names(paths, paths.checkpoints)) and not any(
        _left_in(paths, attempt) for attempt in attempts
    )


def _left_in(paths: RunPaths, attempt: AttemptPaths) -> bool:
    """Whether the trainer left anything in its attempt's folder that could be continued from."""
    ours = (attempt.record, attempt.stdout, attempt.stderr, attempt.spec)
    no_state = {path.name for path in (*ours, attempt.environment, attempt.error, attempt.stop)}
    return any(name not in no_state for name in _names(paths, attempt.root))


def _is_ours(name: str) -> bool:
    return is_claim_or_request(name) or RunPaths.is_result_aside(name)


def _names(paths: RunPaths, folder: Path) -> list[str]:
    try:
        names = fresh_names(folder, paths.disk)
    except RecordError:
        # A folder that cannot be listed may hold anything.
        return ["unknown"]
    return [name for name in names if not name.endswith(TEMPORARY_SUFFIX)]
