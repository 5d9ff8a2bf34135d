"""One archive from the first server that has it: resumed, retried, checked, then renamed.

<archives>/<file>.part        what has come so far
<archives>/<file>.part.json   which remote file that is a part of
<archives>/<file>             the whole file, checked
<archives>/<file>.json        that we downloaded it, from where: only such files are deleted
"""

from __future__ import annotations

import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from experiments.datasets.prepare.integrity import mismatch
from experiments.datasets.prepare.manifest import Archive
from experiments.datasets.prepare.progress import Progress
from experiments.datasets.prepare.ranges import (
    Answer,
    Remote,
    WrongFileError,
    WrongRangeError,
    range_headers,
    read_answer,
)
from merge.errors import DataError, DownloadError, RecordError, UsageError
from merge.storage.atomic import fsync_folder, storage_errors
from merge.storage.json_files import read_json, write_json
from merge.wording import size_text

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18
_LONGEST_WAIT_S = 30.0
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be another one soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a server is bothered: tries without any progress, and seconds of silence."""

    tries: int = 5
    timeout_s: float = 30.0
    first_wait_s: float = 1.0


class _PassingError(Exception):
    """Trying the same address again may help."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of an archive, and its sidecar."""

    path: Path

    @property
    def sidecar(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begun(self) -> Remote | None:
        try:
            return Remote(**read_json(self.sidecar))
        except (FileNotFoundError, RecordError, TypeError):
            # Without its sidecar file it is unknown of which file it is a part: start again.
            return None

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.sidecar.unlink(missing_ok=True)


def addresses(archive: Archive, mirrors: Iterable[str]) -> tuple[str, ...]:
    """Where to try, in order: every mirror, then the official places. UsageError: a bad mirror."""
    found = [f"{_checked_mirror(mirror)}/{archive.file}" for mirror in mirrors]
    return tuple(dict.fromkeys([*found, *archive.urls]))


def download(archive: Archive, folder: Path, urls: Sequence[str], patience: Patience) -> Path:
    """`archive` in `folder`, whole and checked; continues a part that is there.

    DownloadError where no address gave it, DataError where each gave another file, StorageError
    where the file system refuses. What has come stays as a part, except of a wrong file.
    """
    part = _Part(folder / f"{archive.file}.part")
    failures: list[str] = []
    is_passing = False
    for url in urls:
        try:
            _from_address(archive, part, url, patience)
        except _PassingError as error:
            is_passing = True
            failures.append(f"  {url}: {error}")
        except WrongFileError as error:
            failures.append(f"  {url}: {error}")
        else:
            return _finish(part, folder / archive.file, url)
        logger.info("no more attempts for %s (%s)", url, failures[-1].rpartition(": ")[2])
    raise _failure(archive, folder, failures, is_passing=is_passing)


def _failure(
    archive: Archive, folder: Path, failures: Sequence[str], *, is_passing: bool
) -> DownloadError | DataError:
    kind = DownloadError if is_passing else DataError
    lines = failures or ["  the manifest names no address, and no --mirror is given"]
    return kind(
        "\n".join(
            [
                f"{archive.file} could not be downloaded:",
                *lines,
                "  run the same command again (what has come is kept), name another server with "
                f"--mirror URL, or put the file into {folder} yourself",
            ]
        )
    )


def _from_address(archive: Archive, part: _Part, url: str, patience: Patience) -> None:
    """The whole, checked file in `part`; _PassingError or WrongFileError say why not."""
    tries = 0
    was_dropped = False
    while True:
        before = part.size()
        try:
            _transfer(archive, part, url, patience.timeout_s)
        except _PassingError as error:
            # Progress wins new patience: a line that is cut every minute still ends.
            tries = 1 if part.size() > before else tries + 1
            if tries >= patience.tries:
                raise
            wait_s = min(patience.first_wait_s * 2 ** (tries - 1), _LONGEST_WAIT_S)
            logger.info("%s: %s; trying again in %.0f s", url, error, wait_s)
            time.sleep(wait_s)
            continue
        logger.info("%s is here; checking it", archive.file)
        difference = mismatch(part.path, archive)
        if difference is None:
            return
        part.drop()
        if before == 0 or was_dropped:
            raise WrongFileError(f"what came is not the published file: {difference}")
        logger.info("%s: %s; what was continued is dropped, it begins anew", url, difference)
        was_dropped = True


def _transfer(archive: Archive, part: _Part, url: str, timeout_s: float) -> None:
    """Bring `part` to its full length, in one request."""
    begun = part.begun()
    if begun is None:
        part.drop()
    elif begun.total_bytes is not None and part.size() == begun.total_bytes:
        return
    wanted = range_headers(part.size(), begun, url, has_digest=archive.has_digest)
    with closing(_open(url, wanted, part, timeout_s)) as response:
        answer = _read_answer(response, archive, part, begun, url)
        if answer.offset == 0:
            # First of all: old bytes must never stand beside a new sidecar.
            part.drop()
        write_json(part.sidecar, asdict(answer.remote))
        _receive(response, part.path, answer, archive.file)
    _check_length(part, answer.remote.total_bytes or archive.bytes)


def _open(url: str, headers: dict[str, str], part: _Part, timeout_s: float) -> HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "papergrid", **headers})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            part.drop()
        elif error.code not in _PASSING:
            raise WrongFileError(f"the server answers {error.code} {error.reason}") from error
        raise _PassingError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _PassingError(f"no connection ({error.reason})") from error
    except (OSError, HTTPException) as error:
        raise _PassingError(f"no answer ({error!r})") from error
    return response


def _read_answer(
    response: HTTPResponse, archive: Archive, part: _Part, begun: Remote | None, url: str
) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        return read_answer(
            response.status,
            headers,
            url,
            part_bytes=part.size(),
            begun=begun,
            known_bytes=archive.bytes,
        )
    except WrongRangeError as error:
        part.drop()
        raise _PassingError(f"the server does not continue the file ({error})") from error


def _receive(response: HTTPResponse, path: Path, answer: Answer, name: str) -> None:
    if answer.offset:
        logger.info("%s goes on at %s", name, size_text(answer.offset))
    progress = Progress(name, answer.remote.total_bytes, done=answer.offset, is_bytes=True)
    with storage_errors(path):
        file = path.open("ab")
    with closing(file), closing(progress):
        while chunk := _read(response):
            _write(file, chunk, path)
            progress.add(len(chunk))
        with storage_errors(path):
            file.flush()
            os.fsync(file.fileno())


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _PassingError(f"the connection broke ({error!r})") from error


def _write(file: IO[bytes], chunk: bytes, path: Path) -> None:
    with storage_errors(path):
        file.write(chunk)


def _check_length(part: _Part, total_bytes: int | None) -> None:
    if total_bytes is not None and part.size() < total_bytes:
        raise _PassingError(f"cut off after {part.size():,} of {total_bytes:,} bytes")


def _finish(part: _Part, path: Path, url: str) -> Path:
    write_json(receipt(path), {"downloaded_from": url, "bytes": part.size()})
    with storage_errors(path):
        part.path.replace(path)
        part.sidecar.unlink(missing_ok=True)
        fsync_folder(path.parent)
    return path


def receipt(path: Path) -> Path:
    """The record that `path` was downloaded by us."""
    return path.with_name(f"{path.name}.json")


def _checked_mirror(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise UsageError(
            f"the mirror {parts.scheme}://{parts.hostname or ''}{parts.path} is not of the form "
            "http(s)://host/folder"
        )
    if parts.username or parts.password:
        # They would end up in messages and records.
        raise UsageError(f"the mirror at {parts.hostname} must be named without user and password")
    return url.rstrip("/")
