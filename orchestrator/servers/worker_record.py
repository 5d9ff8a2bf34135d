"""A worker's own record: who it is, when it last lived, how it ended. Read by `status`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from merge.errors import PapergridError, UsageError
from merge.records.records import WorkerRecord
from merge.storage.json_files import write_json, write_json_exclusive
from orchestrator.machine.owners import this_owner

_BEATS_PER_EXPIRY = 6

_log = logging.getLogger(__name__)


class Beacon:
    """Rewrites this worker's record until it is told how the worker ended."""

    def __init__(self, path: Path, expiry_s: float) -> None:
        now = time.time()
        self._path = path
        self._interval_s = expiry_s / _BEATS_PER_EXPIRY
        self._record = WorkerRecord(
            name=path.stem, owner=this_owner(), started=now, heartbeat=now, expiry_s=expiry_s
        )
        if not write_json_exclusive(path, self._record.to_json()):
            raise UsageError(f"{path} is another worker's record: each worker needs its own")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beacon", daemon=True)
        self._thread.start()

    def close(self, exit_code: int, reason: str = "") -> None:
        """Write how the worker ended, as the last word."""
        self._end.set()
        self._thread.join()
        now = time.time()
        ended = replace(self._record, heartbeat=now, ended=now, exit_code=exit_code, reason=reason)
        write_json(self._path, ended.to_json())

    def _run(self) -> None:
        while not self._end.wait(self._interval_s):
            self._record = replace(self._record, heartbeat=time.time())
            try:
                write_json(self._path, self._record.to_json())
            except Exception:  # noqa: BLE001
                # A file system that is away for a minute must not end the signs of life.
                _log.exception("no sign of life could be written; it is tried again")


class Telling:
    """What a worker tells its beacon at its end."""

    exit_code: int = 1


@contextmanager
def beacon(path: Path | None, expiry_s: float) -> Iterator[Telling]:
    """Keep the record `path` of this process; set `exit_code` of what this yields.

    Without a path nothing is kept. UsageError where the record is another worker's.
    """
    telling = Telling()
    if path is None:
        yield telling
        return
    light = Beacon(path, expiry_s)
    try:
        yield telling
    except PapergridError as error:
        light.close(error.exit_code, str(error))
        raise
    except BaseException as error:
        light.close(1, f"{type(error).__name__}: {error}")
        raise
    light.close(telling.exit_code)
