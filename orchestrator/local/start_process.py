"""The start of an attempt's command, and what is recorded where it cannot be started."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import replace

from merge.errors import StorageError, SystemLimitError, UsageError
from merge.records.records import AttemptRecord, Cause, Outcome
from merge.storage.atomic import refusal_text
from merge.storage.clock import Clock
from merge.storage.json_files import write_json
from merge.storage.passing_failures import may_pass
from merge.storage.paths import AttemptPaths
from orchestrator.machine.launch import Launch
from orchestrator.machine.limits import patiently
from orchestrator.machine.process import Process

_NOT_FOUND = 127
_CANNOT_RUN = (errno.ENOENT, errno.EACCES, errno.ENOEXEC)
"""Only these say that the study names a command that is not there, or is none."""


def start_process(
    launch: Launch,
    files: AttemptPaths,
    record: AttemptRecord,
    on_exit: Callable[[str], None],
    clock: Clock,
) -> Process | AttemptRecord:
    """The started command; the record of the failed attempt where no process is to be had now.

    That is waited for, some seconds. UsageError where the command cannot be started at all,
    StorageError where the file system fails; `record` is on disk with its reason then.
    """

    def start() -> Process:
        return Process(launch, files.stdout, files.stderr, lambda: on_exit(record.token))

    try:
        return patiently(start, clock.sleep)
    except SystemLimitError as error:
        return _write_failure(files, record, Cause.SYSTEM_LIMIT, str(error))
    except StorageError as error:
        _write_failure(files, record, Cause.DISK_FULL, str(error))
        raise
    except OSError as error:
        reason = _why_not_started(launch, error)
        if may_pass(error):
            _write_failure(files, record, Cause.DISK_FULL, reason)
            raise StorageError(reason) from error
        _write_failure(files, record, Cause.CONFIG, reason)
        raise UsageError(reason) from error
    # A NUL character, or one that the locale cannot spell, in a word or a variable.
    except ValueError as error:
        reason = f"cannot start {launch.argv[0]!r}: a word of the command cannot be used: {error}"
        _write_failure(files, record, Cause.CONFIG, reason)
        raise UsageError(reason) from error


def _write_failure(
    files: AttemptPaths, record: AttemptRecord, cause: Cause, reason: str
) -> AttemptRecord:
    failed = replace(
        record,
        ended=record.started,
        exit_code=_NOT_FOUND,
        outcome=Outcome.FAILED,
        cause=cause,
        reason=reason,
    )
    write_json(files.record, failed.to_json())
    return failed


def _why_not_started(launch: Launch, error: OSError) -> str:
    if error.errno == errno.ENOENT and not launch.cwd.is_dir():
        return f"cannot start in {launch.cwd}: there is no such folder"
    what = f"cannot start {launch.argv[0]!r} in {launch.cwd}"
    if error.errno in _CANNOT_RUN:
        what = f"cannot start {launch.argv[0]!r} ({error.strerror}) in {launch.cwd}"
        return f"{what}: install it, or correct the study's command"
    if error.errno == errno.E2BIG:
        return f"{what}: its words and variables are too long for this system: shorten them"
    return f"{what}: {refusal_text(error)}"


def free_port() -> int:
    """A TCP port that is free now."""
    # Another process may take the port before torchrun binds it: that attempt fails with
    # `port_in_use`, which has a retry rule of its own.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
