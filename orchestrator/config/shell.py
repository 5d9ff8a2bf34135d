"""The only place that makes shell text out of words. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from merge.errors import UsageError


def quote(words: Iterable[str]) -> str:
    """`words` as a line that any POSIX shell splits into exactly these words again.

    UsageError for a NUL byte, which cannot be part of an argument.
    """
    all_words = list(words)
    for word in all_words:
        if "\0" in word:
            raise UsageError(f"{word!r} holds a NUL byte, which cannot be part of an argument")
    return shlex.join(all_words)
