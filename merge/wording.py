"""Text of messages: suggestions for a misspelled name, lists of names, sizes."""

from __future__ import annotations

from collections.abc import Iterable

# A study can have thousands of cells; a message must stay readable on a terminal.
_MAX_LISTED = 40


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to `word`; None if no name is similar."""
    # Only a wrong name costs this import: `replicate --help` must not load it.
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'backbone'?`, or an empty text if no known name is similar."""
    near = nearest(word, known)
    return f": did you mean {near!r}?" if near else ""


def hint(word: str, known: Iterable[str]) -> str:
    """The most similar name, or else all known names."""
    names = list(dict.fromkeys(known))
    return did_you_mean(word, names) or (f"; known: {listed(names)}" if names else "")


def listed(names: Iterable[str], most: int = _MAX_LISTED) -> str:
    """`a, b, c`, cut after `most` names."""
    all_names = list(names)
    more = len(all_names) - most
    return ", ".join(all_names[:most]) + (f", ... ({more} more)" if more > 0 else "")


def size_text(num_bytes: float) -> str:
    """`12.3 GiB`, `1.4 MiB`, `37 bytes`: 1 GiB is 2**30 bytes, as nvidia-smi and torch count."""
    if num_bytes < 2**10:
        return f"{num_bytes:.0f} bytes"
    for unit, size in (("KiB", 2**10), ("MiB", 2**20)):
        # Not where it would be rounded to `1024.0`.
        if num_bytes < (2**10 - 0.05) * size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 2**30:.1f} GiB"
