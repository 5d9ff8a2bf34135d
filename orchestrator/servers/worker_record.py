"""A worker's own record: its process, its heartbeat, how it ended. `status` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from merge.errors import PapergridError, UsageError
from merge.records.records import WorkerRecord
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.json_files import write_json, write_json_exclusive
from orchestrator.machine.owners import this_owner
from orchestrator.machine.repeating_thread import RepeatingThread

_BEATS_PER_EXPIRY = 6
"""Several missed beats, as with a file server that is away for a moment, are not silence yet."""


class WorkerHeartbeat:
    """Rewrites the worker's record at regular intervals until `close`."""

    def __init__(self, path: Path, expiry_s: float, clock: Clock = SYSTEM_CLOCK) -> None:
        now = clock.now()
        self._path = path
        self._clock = clock
        self._record = WorkerRecord(
            name=path.stem, owner=this_owner(), started=now, heartbeat=now, expiry_s=expiry_s
        )
        if not write_json_exclusive(path, self._record.to_json()):
            raise UsageError(f"{path} is another worker's record: each worker needs its own")
        interval_s = expiry_s / _BEATS_PER_EXPIRY
        self._thread = RepeatingThread("worker heartbeat", interval_s, self._beat)
        self._thread.start()

    def close(self, exit_code: int, reason: str = "") -> None:
        """Stop the heartbeat, then write the final record."""
        # First the thread: a beat that is being written must not replace the final record.
        self._thread.stop()
        now = self._clock.now()
        ended = replace(self._record, heartbeat=now, ended=now, exit_code=exit_code, reason=reason)
        write_json(self._path, ended.to_json())

    def _beat(self) -> None:
        self._record = replace(self._record, heartbeat=self._clock.now())
        write_json(self._path, self._record.to_json())


class WorkerExit:
    """The exit code of a worker, to be set before the block of `worker_record` ends."""

    exit_code: int = 1


@contextmanager
def worker_record(path: Path | None, expiry_s: float) -> Iterator[WorkerExit]:
    """Keep the record `path` of this process, with a heartbeat, and write how the block ended.

    A heartbeat older than `expiry_s` seconds counts as silence. Without a path nothing is written.
    UsageError where the record belongs to another worker.
    """
    worker_exit = WorkerExit()
    if path is None:
        yield worker_exit
        return
    heartbeat = WorkerHeartbeat(path, expiry_s)
    try:
        yield worker_exit
    except PapergridError as error:
        heartbeat.close(error.exit_code, str(error))
        raise
    except BaseException as error:
        heartbeat.close(1, f"{type(error).__name__}: {error}")
        raise
    heartbeat.close(worker_exit.exit_code)
