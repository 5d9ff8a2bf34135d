"""Pausing the garbage collector where very many objects and no cycles are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Pause it: over the 10,000 results of a merge its passes cost as much as the reading."""
    # A caller (a notebook, a test) may have switched it off itself.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # All that is new counts as young, so the next passes would look at all of it: to freeze
            # and unfreeze makes it old, without a look.
            gc.freeze()
            gc.unfreeze()
            gc.enable()
