"""A command whose output is watched: one that prints nothing for too long is ended."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from merge.storage.clock import SYSTEM_CLOCK, Clock

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended, and its output."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a command may take, in seconds."""

    total_s: float
    first_s: float
    """Until it first prints something."""
    silence_s: float
    """Between two outputs after that."""


class NoOutputError(Exception):
    """A command printed nothing for so many seconds, or (`is_total`) took longer altogether."""

    def __init__(self, seconds: float, *, is_total: bool) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.is_total = is_total


def run_watched(
    words: Sequence[str],
    text: bytes,
    limits: Limits,
    clock: Clock = SYSTEM_CLOCK,
) -> Ended:
    """Run a command with `text` on its stdin; NoOutputError where it is silent for too long.

    FileNotFoundError where there is no such program.
    """
    # In memory and no pipe: a command that does not read would block the writer.
    stdin = os.memfd_create("stdin")
    try:
        os.write(stdin, text)
        os.lseek(stdin, 0, os.SEEK_SET)
        return _run(words, stdin, limits, clock)
    finally:
        os.close(stdin)


def _run(words: Sequence[str], stdin: int, limits: Limits, clock: Clock) -> Ended:
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=stdin, stdout=pipe, stderr=pipe) as process:
        try:
            output = _read(process, limits, clock)
            # It has closed its output, and so ends by itself.
            exit_code = process.wait(max(1.0, limits.silence_s))
        except subprocess.TimeoutExpired as error:
            raise NoOutputError(limits.total_s, is_total=True) from error
        finally:
            process.kill()
    return Ended(exit_code=exit_code, stdout=output[0], stderr=output[1])


def _read(process: subprocess.Popen[bytes], limits: Limits, clock: Clock) -> tuple[bytes, bytes]:
    """Everything that `process` prints to stdout and to stderr."""
    assert process.stdout
    assert process.stderr
    found = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    end = clock.monotonic() + limits.total_s
    until, patience_s = clock.monotonic() + limits.first_s, limits.first_s
    with selectors.DefaultSelector() as selector:
        for number in found:
            selector.register(number, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, min(end, until) - clock.monotonic()))
            if not ready:
                is_total = end <= until
                raise NoOutputError(limits.total_s if is_total else patience_s, is_total=is_total)
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK_BYTES)
                found[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
            until, patience_s = clock.monotonic() + limits.silence_s, limits.silence_s
    stdout, stderr = found.values()
    return bytes(stdout), bytes(stderr)
