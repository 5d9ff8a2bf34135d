"""A real HTTP server for archives that can fail in every way a server on the internet does."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer."""

    status: int | None = None
    """Answer with this status and no file."""
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    hold_after: int | None = None
    """Send so many bytes, then nothing until the server closes."""
    redirect: str | None = None
    """Say that the file lies at this address."""
    body: bytes | None = None
    """Another file, with its own length and ETag."""
    ignores_range: bool = False
    hides_validators: bool = False


@dataclass
class ArchiveServer:
    """Files by name, faults to come by name, and a log of the requests."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    always: dict[str, Fault] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Name and Range header of each."""
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def fail(self, name: str, *faults: Fault) -> None:
        self.faults[name].extend(faults)

    def asked(self, name: str) -> list[str | None]:
        """The Range headers of the requests for a file, in order."""
        return [wanted for found, wanted in self.requests if found == name]


@contextmanager
def archive_server(files: dict[str, bytes]) -> Iterator[ArchiveServer]:
    served = ArchiveServer(files=dict(files))

    class Handler(_Handler):
        server_state = served

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: ArchiveServer

    def do_GET(self) -> None:
        name = Path(self.path).name
        state = self.server_state
        state.requests.append((name, self.headers.get("Range")))
        queue = state.faults[name]
        fault = queue.popleft() if queue else state.always.get(name, Fault())
        self.close_connection = True
        if fault.status is not None:
            self.send_error(fault.status)
        elif fault.redirect is not None:
            self.send_response(301)
            self.send_header("Location", fault.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name not in state.files:
            self.send_error(404)
        else:
            self._send(state.files[name] if fault.body is None else fault.body, fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        first = self._first_byte(etag, fault)
        if first is not None and first >= len(body):
            self.send_error(416)
            return
        self.send_response(200 if first is None else 206)
        if first is not None:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        rest = body[first or 0 :]
        self.send_header("Content-Length", str(len(rest)))
        if not fault.hides_validators:
            self.send_header("ETag", etag)
        self.end_headers()
        self._write(rest, fault)

    def _first_byte(self, etag: str, fault: Fault) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if match is None or fault.ignores_range:
            return None
        condition = self.headers.get("If-Range")
        return int(match[1]) if condition in (None, etag) else None

    def _write(self, rest: bytes, fault: Fault) -> None:
        stops = [count for count in (fault.cut_after, fault.hold_after) if count is not None]
        try:
            self.wfile.write(rest[: min(stops, default=len(rest))])
            self.wfile.flush()
            if fault.hold_after is not None:
                self.server_state.closing.wait()
        except OSError:
            pass  # the client was killed: that is what the test is for

    def log_message(self, format: str, *args: Any) -> None:
        pass
