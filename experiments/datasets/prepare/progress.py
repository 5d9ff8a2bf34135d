"""Progress on stderr: one line rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from merge.foreign_text import one_line, raw_stream
from merge.wording import size_text

_EVERY_S = {True: 0.5, False: 15.0}


class Progress:
    """Counts `unit`s of one piece of work up to `total`, where that is known."""

    def __init__(
        self, what: str, total: int | None, *, done: int = 0, is_bytes: bool = False
    ) -> None:
        self._what = what
        self._total = total
        self._done = self._first = done
        self._is_bytes = is_bytes
        self._is_terminal = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._shown >= _EVERY_S[self._is_terminal]:
            self._shown = now
            self._show(now)

    def close(self) -> None:
        """End the line of a terminal."""
        if self._is_terminal and self._shown != self._began:
            print(file=raw_stream(sys.stderr))

    def _show(self, now: float) -> None:
        rate = (self._done - self._first) / (now - self._began)
        parts = [f"{self._what}: {self._amount(self._done)}"]
        if self._total:
            parts[0] += f" of {self._amount(self._total)} ({self._done / self._total:.0%})"
            if rate > 0:
                left_s = int((self._total - self._done) / rate)
                parts.append(f"{left_s // 60}:{left_s % 60:02d} left")
        if self._is_bytes:
            parts.insert(1, f"{self._amount(rate)}/s")
        text = ", ".join(parts)
        end = "" if self._is_terminal else "\n"
        line = f"\r\033[K{one_line(text)}" if self._is_terminal else text
        print(line, end=end, file=raw_stream(sys.stderr), flush=True)

    def _amount(self, count: float) -> str:
        return size_text(count) if self._is_bytes else f"{count:,.0f}"
