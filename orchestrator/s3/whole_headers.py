"""HTTP headers that a lost connection has cut are no headers.

`http.client` takes the end of a connection for the end of the headers. A HEAD answer has no body
whose length could tell: cut, it is an object without a checksum, of a shorter size or of another
ETag.
"""

from __future__ import annotations

from functools import cache
from http.client import HTTPResponse, IncompleteRead
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.s3.client import Client

_ENDS = (b"\r\n", b"\n")


def refuse_cut_headers(client: Client) -> None:
    """Have each connection of `client` fail as a lost one where its headers do not end."""
    # botocore has no public way to pass a class of connections.
    client._endpoint.http_session._pool_classes_by_scheme.update(_pool_classes())


class _LineReader:
    """Reads lines for `http.client`, and remembers the last one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._stream.readline(limit)
        return self.last

    def close(self) -> None:
        self._stream.close()


class _WholeHeadersResponse(HTTPResponse):
    """An answer whose headers end with an empty line, as HTTP demands."""

    def begin(self) -> None:
        if self.headers is not None:
            return
        stream: Any = self.fp
        reader: Any = _LineReader(stream)
        self.fp = reader
        try:
            super().begin()
        finally:
            if self.fp is reader:
                self.fp = stream
        if reader.last not in _ENDS:
            raise IncompleteRead(b"")


@cache
def _pool_classes() -> dict[str, type]:
    from botocore.awsrequest import (
        AWSHTTPConnection,
        AWSHTTPConnectionPool,
        AWSHTTPSConnection,
        AWSHTTPSConnectionPool,
    )

    class Connection(AWSHTTPConnection):  # type: ignore[misc]
        response_class = _WholeHeadersResponse

    class SecureConnection(AWSHTTPSConnection):  # type: ignore[misc]
        response_class = _WholeHeadersResponse

    class Pool(AWSHTTPConnectionPool):  # type: ignore[misc]
        ConnectionCls = Connection

    class SecurePool(AWSHTTPSConnectionPool):  # type: ignore[misc]
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}
