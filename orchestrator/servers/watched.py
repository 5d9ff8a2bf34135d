"""A command whose output is watched: one that prints nothing for too long is ended."""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended, and its output."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class NoOutputError(Exception):
    """A command printed nothing for so many seconds, or (`is_total`) took longer altogether."""

    def __init__(self, seconds: float, *, is_total: bool) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.is_total = is_total


def run_watched(
    words: Sequence[str], text: bytes, *, timeout_s: float, first_s: float, silence_s: float
) -> Ended:
    """Run a command with `text` on its stdin; NoOutputError where it is silent for too long.

    It must print something in `first_s` seconds, then at least every `silence_s` seconds, and end
    in `timeout_s` seconds. FileNotFoundError where there is no such program.
    """
    with tempfile.TemporaryFile() as stdin:
        # A file and no pipe: a command that does not read would block the writer.
        stdin.write(text)
        stdin.seek(0)
        with subprocess.Popen(
            words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                output = _read(process, timeout_s, first_s, silence_s)
                # It has closed its output, and so ends by itself.
                exit_code = process.wait(max(1.0, silence_s))
            except subprocess.TimeoutExpired as error:
                raise NoOutputError(timeout_s, is_total=True) from error
            finally:
                process.kill()
    return Ended(exit_code=exit_code, stdout=output[0], stderr=output[1])


def _read(
    process: subprocess.Popen[bytes], timeout_s: float, first_s: float, silence_s: float
) -> tuple[bytes, bytes]:
    """Everything that `process` prints to stdout and to stderr."""
    assert process.stdout
    assert process.stderr
    found = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    end = time.monotonic() + timeout_s
    until, patience_s = time.monotonic() + first_s, first_s
    with selectors.DefaultSelector() as selector:
        for number in found:
            selector.register(number, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, min(end, until) - time.monotonic()))
            if not ready:
                is_total = end <= until
                raise NoOutputError(timeout_s if is_total else patience_s, is_total=is_total)
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK_BYTES)
                found[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
            until, patience_s = time.monotonic() + silence_s, silence_s
    stdout, stderr = found.values()
    return bytes(stdout), bytes(stderr)
