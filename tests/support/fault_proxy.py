"""An HTTP proxy that damages what passes: lost requests and answers, 500, 503, delays, cuts."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = (
    "cut before",
    "cut after",
    "500 before",
    "500 after",
    "503",
    "slow",
    "half request",
    "half answer",
)
"""`after` means that the server has done what was asked when the client learns of a failure."""

_HOP = {"connection", "transfer-encoding", "expect"}


class FaultProxy:
    """Between clients and `upstream`; a share of all requests goes wrong."""

    def __init__(self, upstream: str, seed: int, share: float) -> None:
        print(f"fault proxy: seed {seed}")
        address = urlsplit(upstream)
        self.upstream = (address.hostname or "", address.port or 80)
        self.share = share
        self.is_down = False
        """Refuse everything: an outage."""
        self.answer: tuple[int, str] | None = None
        """Answer everything with this status and code instead."""
        self.cut_after_parts: int | None = None
        """An outage once that many parts of uploads have passed."""
        self.cut_after_ranges: int | None = None
        """An outage once that many pieces of downloads have passed."""
        self.change: Callable[[str, bytes], bytes] | None = None
        """What is sent for a request (method and path) instead of its answer; may be a part."""
        self.clock_ahead_s = 0.0
        self.ranges: list[str] = []
        """The Range of each request that has one."""
        self.counts: Counter[str] = Counter()
        self.requests: list[str] = []
        """Method and path of each request."""
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def note(self, request: str, asked_range: str | None) -> None:
        """Remember a request; start an outage where it was the last that may pass."""
        with self._lock:
            self.requests.append(request)
            if asked_range:
                self.ranges.append(asked_range)
            num_parts = sum("partNumber" in r for r in self.requests)
            limits = ((self.cut_after_parts, num_parts), (self.cut_after_ranges, len(self.ranges)))
            self.is_down = self.is_down or any(m is not None and n > m for m, n in limits)

    def fault(self) -> str:
        """What goes wrong with the next request; empty for nothing."""
        with self._lock:
            if self.is_down:
                return "cut before"
            if self._random.random() >= self.share:
                return ""
            fault = self._random.choice(FAULTS)
            self.counts[fault] += 1
            return fault

    @property
    def flags(self) -> tuple[str, str]:
        return ("--endpoint-url", self.endpoint)

    @contextmanager
    def serving(self) -> Iterator[FaultProxy]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.owner.note(f"{self.command} {self.path}", self.headers.get("Range"))
        if self.owner.answer:
            self._refuse(*self.owner.answer)
            return
        fault = self.owner.fault()
        if fault in ("cut before", "half request"):
            if fault == "half request":
                self._forward_half(body)
            self.close_connection = True
            return
        if fault in ("500 before", "503"):
            self._refuse(*((503, "SlowDown") if fault == "503" else (500, "InternalError")))
            return
        if fault == "slow":
            time.sleep(0.2)
        self._answer(fault, *self._forward(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815

    def _answer(self, fault: str, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        if fault == "cut after":
            self.close_connection = True
            return
        if fault == "500 after":
            self._refuse(500, "InternalError")
            return
        if self.owner.change:
            self._send_changed(self.owner.change, status, headers, data)
            return
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault == "half answer" and data:
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)

    def _send_changed(
        self,
        change: Callable[[str, bytes], bytes],
        status: int,
        headers: list[tuple[str, str]],
        data: bytes,
    ) -> None:
        fields = {name: value for name, value in headers if name.lower() not in _HOP}
        if self.command != "HEAD":
            fields["Content-Length"] = str(len(data))
        lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in fields.items())]
        whole = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + data
        self.wfile.write(change(f"{self.command} {self.path}", whole))
        self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>said the proxy</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(text)))
        self.send_header("Date", self.date_time_string(time.time() + self.owner.clock_ahead_s))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.owner.upstream, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _forward_half(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(*self.owner.upstream, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP:
                connection.putheader(name, value)
        connection.endheaders()
        connection.send(body[: len(body) // 2])
        connection.close()
