"""What sync remembers, so that only what changed is read, asked for or sent. All of it rebuildable.

A lost cache costs reading the files again and one request per object, never a wrong decision: where
it is not known which side changed a file, nothing is overwritten.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.sweep import Sweep
from merge.storage.atomic import remove_file
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.control_paths import SyncPaths
from merge.storage.json_files import read_json, write_json
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import Bucket, ListedObject
from orchestrator.s3.checksums import sha256_hex
from orchestrator.s3.upload import Snapshot

_SETTLED_S = 2.0
"""A file that changed less than this ago may change again within one tick of its time stamp (up to
2 s on some file systems), so its hash is not remembered."""
_SAVE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownObject:
    """What is known of an object."""

    size: int
    """Bytes."""
    etag: str
    sha256: str | None
    """Of its content, as stored with it; None where its writer stored none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """The plan in a bucket, as it was read."""

    sweep: Sweep
    etag: str
    """Its version."""


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
        self.plan: StoredPlan | None = None
        """As this process read it last for a merged view."""
        self._bucket = bucket
        self._lock = threading.Lock()
        self._hashes = _read(self.paths.hashes)
        saved = _read(self.paths.place(self._digest))
        # The keys in the file are older than the names here; a cache keeps its value over updates.
        self._objects: dict[str, list[Any]] = saved.get("objects", {})
        self._synced: dict[str, str] = saved.get("agreed", {})
        self._mirrored: dict[str, str] = saved.get("viewed", {})
        self._saved = self._clock.monotonic()

    def local_sha256(self, name: str, source: Snapshot) -> str:
        """The SHA-256 of an open file; from the cache where the file has not changed since."""
        status = os.fstat(source.descriptor)
        stamp = [status.st_mtime_ns, status.st_ctime_ns, source.size, status.st_ino]
        known = self._hashes.get(name)
        if known and known[:-1] == stamp:
            return str(known[-1])
        # Asked before the file is read: a change during the reading must not be remembered.
        is_settled = self._clock.now() - status.st_mtime > _SETTLED_S
        sha256 = source.sha256()
        if is_settled:
            with self._lock:
                self._hashes[name] = [*stamp, sha256]
        return sha256

    def remote_sha256(self, listed: ListedObject) -> str | None:
        """The SHA-256 of an object, with one HEAD request where it is not known.

        None where it has no SHA-256, or is gone. What the server computed counts more than what
        the writer stored.
        """
        known = self._objects.get(listed.name)
        if known and known[:2] == [listed.size, listed.etag]:
            return None if known[2] is None else str(known[2])
        head = self._bucket.head(listed.name)
        if head is None:
            return None
        sha256 = head.best_sha256
        self.record_remote(
            listed.name, KnownObject(size=listed.size, etag=listed.etag, sha256=sha256)
        )
        return sha256

    def record_remote(self, name: str, known: KnownObject) -> None:
        """Remember what is in the bucket."""
        with self._lock:
            self._objects[name] = [known.size, known.etag, known.sha256]

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


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except RecordError:
        # A damaged cache is rebuilt.
        remove_file(path)
        return {}
