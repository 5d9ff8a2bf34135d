"""A server that sends given bytes as its answers, however wrong they are."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

DATE = "Fri, 02 Jan 2026 03:05:35 GMT"
"""90 s after `WRITTEN`."""
WRITTEN = "Fri, 02 Jan 2026 03:04:05 GMT"


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; underscores in the names of headers stand for dashes."""
    fields = {"Date": DATE, "Content_Length": str(len(body)), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


class CannedStore:
    """Sends the answers in `answers`, one a request; the last one for all that follow."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.num_requests = 0
        store = self

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self) -> None:
                with suppress(OSError):
                    while method := self._read_request():
                        if not store.send(method, self.wfile.write):
                            return

            def _read_request(self) -> str:
                """The method of the next request; empty at the end of the connection."""
                length = 0
                line = self.rfile.readline()
                method = line.decode().partition(" ")[0]
                while line not in (b"\r\n", b""):
                    name, _, value = line.lower().partition(b":")
                    if name == b"content-length":
                        length = int(value)
                    if name == b"expect":
                        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    line = self.rfile.readline()
                self.rfile.read(length)
                return method

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def send(self, method: str, write: Callable[[bytes], object]) -> bool:
        """Send the next answer; whether it is whole, so that the connection stays open."""
        self.num_requests += 1
        raw = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        write(raw)
        head, end, body = raw.partition(b"\r\n\r\n")
        is_whole = method == "HEAD" or f"Content-Length: {len(body)}".encode() in head.split(
            b"\r\n"
        )
        return bool(end) and is_whole

    @contextmanager
    def serving(self) -> Iterator[CannedStore]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
