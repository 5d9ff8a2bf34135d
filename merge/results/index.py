"""A cache of what earlier merges read, so that one more result needs no reading of the rest.

A file is known by its path, times, size and inode. The index can be deleted at any time; a damaged
one, or one of another version, is ignored.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.manifest import Manifest
from merge.records.result import Result, result_from_json
from merge.results.entries import Entry, entry_from_json, entry_of
from merge.storage.atomic import write_bytes
from merge.storage.disk import SYSTEM_DISK, descriptor_at_once
from merge.storage.json_files import Json, canonical_json, compact_json, parse_json
from merge.storage.passing_failures import READ_WAITS_S, repeated
from merge.storage.paths import SweepPaths

_VERSION = 4
"""To be raised whenever an entry is made differently of a result."""

_MANY = 5000
"""From so many results on, msgspec saves more than importing it costs (12 ms)."""

_PLAN = SweepPaths.PLAN_NAME

Stamp = list[int]


class ResultIndex:
    """Entries of the result files of one output folder, read once each."""

    def __init__(self, output: Path, known: dict[str, Any], manifest: Manifest) -> None:
        self._output = str(output)
        self._manifest = manifest
        self._known = known
        self._used: dict[str, list[Any]] = {}
        self.num_read = 0
        self._has_new_plan = False

    @property
    def is_changed(self) -> bool:
        """Whether saving it would change anything."""
        return self.num_read > 0 or self._has_new_plan or self._used.keys() != self._known.keys()

    def entry(self, label: str) -> Entry:
        """The entry of the file `label`, relative to the output folder.

        FileNotFoundError where it has gone; RecordError, which names `label`, where unusable.
        """
        path = f"{self._output}/{label}"
        known = self._known.get(label)
        if known is not None and known[0] == _stamp(os.stat(path)):  # noqa: PTH116 - asked 10,000 times
            self._used[label] = known
            return entry_from_json(known[1], known[2])
        return self._read(label)[0]

    def _read(self, label: str) -> tuple[Entry, Result]:
        data, stamp = _read(f"{self._output}/{label}", label)
        result = result_from_json(label, parse_json(label, data))
        entry = entry_of(result, self._manifest)
        known = self._known.get(label)
        if known is not None and known[0] == stamp:
            self._used[label] = known
        else:
            self.num_read += 1
            self._used[label] = [stamp, entry.run_id, entry.to_json()]
        return entry, result

    def knows_plan(self) -> bool:
        """Whether every hash in the plan, as it lies there, was once found to be right."""
        known = self._known.get(_PLAN)
        if known is None or known[0] != self._plan_stamp():
            return False
        self._used[_PLAN] = known
        return True

    def remember_plan(self) -> None:
        """Every hash in the plan is right."""
        self._has_new_plan = True
        self._used[_PLAN] = [self._plan_stamp(), "", {}]

    def _plan_stamp(self) -> Stamp | None:
        try:
            return _stamp(Path(self._output, _PLAN).stat())
        except OSError:
            return None

    def save(self, path: Path) -> None:
        """Write what was used into `path`. StorageError where it cannot be written."""
        payload = _encoded(self._used)
        header = _header(payload, self._manifest)
        write_bytes(path, compact_json(header) + b"\n" + payload + b"\n")


class ResultReader(ResultIndex):
    """An index that reads every file all the same, and keeps the results whole.

    A report shows what an index leaves out; with this, one reading serves merge and report.
    """

    def __init__(self, output: Path, known: dict[str, Any], manifest: Manifest) -> None:
        super().__init__(output, known, manifest)
        self.results: dict[str, Result] = {}
        """By the name of their file, relative to the output folder."""

    def entry(self, label: str) -> Entry:
        entry, self.results[label] = self._read(label)
        return entry


def load_index(output: Path, path: Path, manifest: Manifest) -> ResultIndex:
    """The index in `path` of the output folder; an empty one where there is none to be used.

    `manifest` is that of the folder's plan: entries made by another one are not used.
    """
    return ResultIndex(output, known_entries(path, manifest), manifest)


def known_entries(path: Path, manifest: Manifest) -> dict[str, Any]:
    """What the index in `path` holds; nothing where it is absent, damaged or made otherwise."""
    try:
        header_line, payload, _ = SYSTEM_DISK.read(path).split(b"\n")
        header = json.loads(header_line)
        is_ours = header == _header(payload, manifest)
        return parse_json(path, payload, may_repeat_keys=False) if is_ours else {}
    except (OSError, ValueError, RecordError):
        return {}


def _encoded(used: dict[str, list[Any]]) -> bytes:
    if len(used) < _MANY:
        return compact_json(used)
    # No person reads it, so its text may be that of msgspec, which is made ten times as fast.
    import msgspec

    return msgspec.json.encode(used)


def _header(payload: bytes, manifest: Manifest) -> dict[str, Json]:
    return {
        "version": _VERSION,
        # An entry keeps the details that the manifest lists: after a change of the list it would
        # lack some.
        "manifest": sha256(canonical_json(manifest.to_json())).hexdigest(),
        "sha256": sha256(payload).hexdigest(),
    }


def _read(path: str, label: str) -> tuple[bytes, Stamp]:
    try:
        return repeated(lambda: _read_at_once(path), READ_WAITS_S)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{label} cannot be read ({error.strerror})") from error


def _read_at_once(path: str) -> tuple[bytes, Stamp]:
    # Without a file object, which costs a third of reading a small file, 10,000 times.
    descriptor = descriptor_at_once(path)
    try:
        stat = os.fstat(descriptor)
        parts = []
        while part := os.read(descriptor, stat.st_size + 1):
            parts.append(part)
        return b"".join(parts), _stamp(stat)
    finally:
        os.close(descriptor)


def _stamp(stat: os.stat_result) -> Stamp:
    # The inode too: a file that was replaced within one tick of the clock has equal times and
    # perhaps an equal size.
    return [stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino]
