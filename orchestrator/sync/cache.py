"""What sync remembers, so that only what changed is read, asked for or sent. All of it rebuildable.

A lost cache costs reading the files again and one request per object, never a wrong decision: where
it is not known which side changed a file, nothing is overwritten.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.storage.atomic import remove_file
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.control_paths import SyncPaths
from merge.storage.json_files import read_json, write_json
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.checksums import read_until_sure, sha256_hex
from orchestrator.s3.objects import ListedObject
from orchestrator.s3.upload import Snapshot

_SETTLED_S = 2.0
"""A file may change again within one tick of its time stamp (up to 2 s on some file systems). So
its hash is believed once the same stamp was seen for longer than that, by this host's own clock:
the stamp itself may come from the clock of another host."""
_NUM_STAMPS = 4
_SAVE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownObject:
    """What is known of an object."""

    size: int
    """Bytes."""
    etag: str
    sha256: str | None
    """Of its content, as stored with it; None where its writer stored none."""


class SyncCache:
    """Of one output folder and one place in a bucket. Safe for many threads."""

    def __init__(self, output: Path, bucket: Bucket, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        url = bucket.target.url
        self._digest = sha256_hex(bucket.target.cache_key.encode())[:16]
        self.paths: SyncPaths = SweepPaths(output).sync
        self.mirror = SweepPaths(
            self.paths.view(self._digest, url.prefix.rpartition("/")[2] or url.bucket)
        )
        """Copies of the plan and the results in the bucket, laid out as an output folder. Its name
        is the same on every machine: it is a part of the merged JSON."""
        self._bucket = bucket
        # Monotonic times of this host, until it is started again, can be compared.
        self._boot_id = this_owner().boot_id
        self._lock = threading.Lock()
        self._hashes = _read(self.paths.hashes)
        saved = _read(self.paths.place(self._digest))
        # The keys in the file are older than the names here; a cache keeps its value over updates.
        self._objects: dict[str, list[Any]] = saved.get("objects", {})
        self._synced: dict[str, str] = saved.get("agreed", {})
        self._mirrored: dict[str, str] = saved.get("viewed", {})
        self._names_below: dict[str, set[str]] = {}
        """Names of known objects, by each folder above them, with its slash."""
        for name in (*self._objects, *self._mirrored):
            self._index(name)
        self._saved = self._clock.monotonic()

    def local_sha256(self, name: str, source: Snapshot) -> str:
        """The SHA-256 of an open file; from the cache where the file has not changed since."""
        status = os.fstat(source.descriptor)
        stamp = [status.st_mtime_ns, status.st_ctime_ns, source.size, status.st_ino]
        known = self._hashes.get(name)
        if known and known[:_NUM_STAMPS] != stamp:
            known = None
        if known and len(known) == _NUM_STAMPS + 1:
            return str(known[-1])
        # Asked before the file is read: a change during the reading must not be remembered.
        seen = [self._boot_id, self._clock.monotonic()]
        sha256 = source.sha256()
        if known and known[-2] == seen[0]:
            seen = known[-2:] if seen[1] - known[-1] <= _SETTLED_S else []
        with self._lock:
            self._hashes[name] = [*stamp, sha256, *seen]
        return sha256

    def remote_sha256(self, listed: ListedObject, expected: str | None = None) -> str | None:
        """The SHA-256 of an object, with a HEAD request where it is not known.

        None where it has no SHA-256, or is gone. What the server computed counts more than what
        the writer stored. Another one than `expected` is asked for again: it is remembered, and a
        byte may have been flipped on the way.
        """
        known = self._objects.get(listed.name)
        if known and known[:2] == [listed.size, listed.etag] and known[2] is not None:
            return str(known[2])
        sha256 = read_until_sure(lambda: self._ask_sha256(listed.name) or "", expected or "")
        if sha256:
            self.record_remote(
                listed.name, KnownObject(size=listed.size, etag=listed.etag, sha256=sha256)
            )
        return sha256 or None

    def _ask_sha256(self, name: str) -> str | None:
        head = self._bucket.head(name)
        return head.best_sha256 if head else None

    def record_remote(self, name: str, known: KnownObject) -> None:
        """Remember what is in the bucket."""
        with self._lock:
            self._objects[name] = [known.size, known.etag, known.sha256]
            self._index(name)

    def known_names(self, name_prefix: str) -> set[str]:
        """The objects known to be there: all, or those below the folder `name_prefix`."""
        with self._lock:
            return set(self._names_below.get(name_prefix, ()))

    def forget(self, names: Iterable[str]) -> None:
        """Forget objects that are gone."""
        with self._lock:
            for name in names:
                self._objects.pop(name, None)
                self._mirrored.pop(name, None)
                for folder in _folders_above(name):
                    self._names_below.get(folder, set()).discard(name)

    def _index(self, name: str) -> None:
        for folder in _folders_above(name):
            self._names_below.setdefault(folder, set()).add(name)

    def last_synced(self, name: str) -> str | None:
        """The SHA-256 that file and object had when they were last equal."""
        return self._synced.get(name)

    def record_synced(self, name: str, sha256: str) -> None:
        """Remember that file and object are equal."""
        with self._lock:
            self._synced[name] = sha256

    def is_mirrored(self, listed: ListedObject) -> bool:
        """Whether this version of the object was copied into the mirror."""
        return self._mirrored.get(listed.name) == listed.etag

    def record_mirrored(self, listed: ListedObject) -> None:
        """Remember that this version of the object is in the mirror."""
        with self._lock:
            self._mirrored[listed.name] = listed.etag
            self._index(listed.name)

    def save(self, *, now: bool = True) -> None:
        """Write the cache to disk; with `now=False` at most every few seconds."""
        with self._lock:
            if not now and self._clock.monotonic() - self._saved < _SAVE_EVERY_S:
                return
            self._saved = self._clock.monotonic()
            hashes = dict(self._hashes)
            place = {
                "objects": dict(self._objects),
                "agreed": dict(self._synced),
                "viewed": dict(self._mirrored),
            }
        write_json(self.paths.hashes, hashes)
        write_json(self.paths.place(self._digest), place)


def _folders_above(name: str) -> list[str]:
    """`a/b/c` lies below ``, `a/` and `a/b/`."""
    parts = name.split("/")[:-1]
    return ["", *("/".join(parts[: n + 1]) + "/" for n in range(len(parts)))]


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except RecordError:
        # A damaged cache is rebuilt.
        remove_file(path)
        return {}
