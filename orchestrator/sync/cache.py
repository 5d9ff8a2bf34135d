"""What sync remembers, so that only what changed is read, asked for or sent. All of it rebuildable.

A lost memory costs reading files again and one question for each object; never a wrong decision:
where it is not known who changed a file, nothing is overwritten.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.storage.json_files import read_json, write_json
from merge.storage.paths import SweepPaths, SyncPaths
from orchestrator.s3.bucket import Bucket, Head, Stored
from orchestrator.s3.upload import Snapshot

_SETTLED_S = 2.0
"""A file that changed later than this may change again within one tick of its clock."""
_SAVE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An object, as far as it was asked for."""

    size: int
    etag: str
    sha256: str | None
    """Of its bytes, as stored with it; None where its writer stored none."""


class Memory:
    """Of one output folder and one place in a bucket. Safe for many threads."""

    def __init__(self, output: Path, bucket: Bucket) -> None:
        target = bucket.target
        place = f"{target.endpoint_url} {target.url}"
        self.digest = hashlib.sha256(place.encode()).hexdigest()[:16]
        self.paths: SyncPaths = SweepPaths(output).sync
        url = target.url
        self.view = SweepPaths(
            self.paths.view(self.digest, url.prefix.rpartition("/")[2] or url.bucket)
        )
        """The plan and the results there, as an output folder that has the same name everywhere."""
        self._bucket = bucket
        self._output = output
        self._lock = threading.Lock()
        self._hashes = _read(self.paths.hashes)
        place_memory = _read(self.paths.place(self.digest))
        self._objects: dict[str, list[Any]] = place_memory.get("objects", {})
        self._agreed: dict[str, str] = place_memory.get("agreed", {})
        self._viewed: dict[str, str] = place_memory.get("viewed", {})
        self._saved = time.monotonic()

    def local_sha256(self, name: str, source: Snapshot) -> str:
        """The SHA-256 of an open file, from memory where it has not changed since."""
        status = os.fstat(source.descriptor)
        stamp = [status.st_mtime_ns, status.st_ctime_ns, source.size, status.st_ino]
        known = self._hashes.get(name)
        if known and known[:-1] == stamp:
            return str(known[-1])
        settled = time.time() - status.st_mtime > _SETTLED_S
        sha256 = source.sha256()
        if settled:
            with self._lock:
                self._hashes[name] = [*stamp, sha256]
        return sha256

    def remote_sha256(self, stored: Stored) -> str | None:
        """The SHA-256 stored with an object, asked for where it is not known.

        What the server computed itself counts more than what was stored beside it.
        """
        known = self._objects.get(stored.name)
        if known and known[:2] == [stored.size, stored.etag]:
            return None if known[2] is None else str(known[2])
        head = self._bucket.head(stored.name)
        if head is None:
            return None
        sha256 = true_sha256(head)
        self.saw(stored.name, Known(size=stored.size, etag=stored.etag, sha256=sha256))
        return sha256

    def saw(self, name: str, known: Known) -> None:
        """Remember what is in the bucket."""
        with self._lock:
            self._objects[name] = [known.size, known.etag, known.sha256]

    def agreed(self, name: str) -> str | None:
        """The SHA-256 that file and object had when they were last equal."""
        return self._agreed.get(name)

    def agree(self, name: str, sha256: str) -> None:
        """Remember that file and object are equal."""
        with self._lock:
            self._agreed[name] = sha256

    def is_viewed(self, stored: Stored) -> bool:
        """Whether this very object was fetched into the view."""
        return self._viewed.get(stored.name) == stored.etag

    def has_viewed(self, stored: Stored) -> None:
        """Remember that this object was fetched into the view."""
        with self._lock:
            self._viewed[stored.name] = stored.etag

    def save(self, *, now: bool = True) -> None:
        """Write the memory to disk; with `now=False` only every few seconds."""
        with self._lock:
            if not now and time.monotonic() - self._saved < _SAVE_EVERY_S:
                return
            self._saved = time.monotonic()
            hashes = dict(self._hashes)
            place = {
                "objects": dict(self._objects),
                "agreed": dict(self._agreed),
                "viewed": dict(self._viewed),
            }
        write_json(self.paths.hashes, hashes)
        write_json(self.paths.place(self.digest), place)


def true_sha256(head: Head) -> str | None:
    """The SHA-256 of an object's bytes, as far as the store tells."""
    return head.server_sha256 or head.sha256


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except RecordError:
        # It is only a memory: what is unreadable is made anew.
        path.unlink()
        return {}
