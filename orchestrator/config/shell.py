"""The one place where words become shell text. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from merge.errors import UsageError


def quote(words: Iterable[str]) -> str:
    """`words` as a line that any POSIX shell splits into exactly these words again.

    UsageError for a NUL byte, which no process can be given.
    """
    known = list(words)
    for word in known:
        if "\0" in word:
            raise UsageError(f"{word!r} holds a NUL byte, which no command can be given")
    return shlex.join(known)
