"""What a message says about a name that does not exist: the nearest one, or all there are."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_LISTED = 40


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'backbone'?`, or nothing where no known name is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def hint(word: str, known: Iterable[str]) -> str:
    """The near name, or else all names that there are."""
    names = list(dict.fromkeys(known))
    return did_you_mean(word, names) or (f"; known: {listed(names)}" if names else "")


def listed(names: Iterable[str]) -> str:
    """`a, b, c`, cut where there are very many."""
    all_names = list(names)
    more = len(all_names) - _MOST_LISTED
    return ", ".join(all_names[:_MOST_LISTED]) + (f", ... ({more} more)" if more > 0 else "")
