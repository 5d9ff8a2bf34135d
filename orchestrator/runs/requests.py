"""Requests about runs, as files: an executor on any host that shares the folder reads them.

A request is a file of its own, request-NNNN.json, created exclusively; the one of the highest
number holds. Nothing is ever deleted: a later request overrules an earlier one.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator

from merge.errors import RecordError, UnreadableError
from merge.records.records import AttemptRecord, Request, RequestAction, read_attempt, read_request
from merge.storage.json_files import write_json_exclusive
from merge.storage.paths import RunPaths


def last_request(paths: RunPaths) -> Request | None:
    """The request that holds; None where there was never one. RecordError where unreadable."""
    # Listed instead of looking for one name: NFS clients remember for half a minute that a name
    # was not there.
    numbers = paths.request_numbers()
    return _read(paths, numbers[-1]) if numbers else None


def requests_of(paths: RunPaths) -> Iterator[Request]:
    """All requests about the run, the newest first. RecordError where one is unreadable."""
    return (_read(paths, number) for number in reversed(paths.request_numbers()))


def cancellation(paths: RunPaths) -> Request | None:
    """The request that the run be started nowhere; None where none holds."""
    request = last_request(paths)
    return request if request and request.action is RequestAction.CANCEL else None


def ask(paths: RunPaths, action: RequestAction, *, now: float) -> Request:
    """Write a request about a run, made at Unix time `now`. StorageError: not writable."""
    while True:
        requests, claims = paths.request_numbers(), paths.claim_numbers()
        request = Request(
            number=requests[-1] + 1 if requests else 1,
            action=action,
            claim=claims[-1] if claims else 0,
            by=user_name(),
            host=os.uname().nodename,
            time=now,
        )
        if write_json_exclusive(paths.request(request.number), request.to_json(), paths.disk):
            return request


def cancelled_text(request: Request) -> str:
    """Who cancelled the run, when, and how to take it back."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(request.time))
    return (
        f"cancelled by {request.by} on {request.host}, {when}; `replicate retry` takes it back, "
        f"and so does the command that starts it, with --retry-cancelled"
    )


def counted_attempts(paths: RunPaths) -> tuple[AttemptRecord, ...]:
    """The run's attempts since a person last asked for a retry, the oldest first."""
    first = first_counted(paths)
    return tuple(record for record in all_attempts(paths) if record.number >= first)


def all_attempts(paths: RunPaths) -> tuple[AttemptRecord, ...]:
    """Every attempt at the run that left a record, the oldest first; unreadable ones are none."""
    found = (_attempt(paths, number) for number in paths.claim_numbers())
    return tuple(record for record in found if record)


def first_counted(paths: RunPaths) -> int:
    """The number of the first attempt that counts."""
    for number in reversed(paths.request_numbers()):
        request = _read(paths, number)
        if request.action is RequestAction.RETRY:
            return request.claim + 1
    return 1


def _attempt(paths: RunPaths, number: int) -> AttemptRecord | None:
    try:
        return read_attempt(paths.attempt(number).record, paths.disk)
    except (FileNotFoundError, RecordError):
        # A damaged old record must not keep the run from being tried: it counts as no attempt.
        return None


def _read(paths: RunPaths, number: int) -> Request:
    path = paths.request(number)
    try:
        return read_request(path, paths.disk)
    except FileNotFoundError as error:
        raise RecordError(
            f"{path} vanished while it was read: run the same command again", path=path
        ) from error
    except UnreadableError:
        raise
    except RecordError as error:
        raise RecordError(
            f"{error}: whether this run is cancelled is unknown, so it is not started; remove that "
            f"file, then give `replicate cancel` or `replicate retry` again",
            path=path,
        ) from error


def user_name() -> str:
    """The user of this process, by its user id: USER in the environment may name another."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
