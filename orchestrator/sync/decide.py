"""Whether a sync may overwrite a file that differs: pure, by comparing SHA-256 values.

A three-way comparison: source, destination, and what both were when they were last equal. The side
that changed since then is newer. Time stamps are not compared: clocks of two hosts differ.
"""

from __future__ import annotations

from enum import StrEnum


class Decision(StrEnum):
    """What to do with one file."""

    OVERWRITE = "overwrite"
    EQUAL = "equal"
    DESTINATION_IS_NEWER = "destination is newer"
    """The destination has changed since both were equal, the source has not."""
    CONFLICT = "conflict"
    """Both changed, or it is not known which did: both stay."""


def decide(
    source: str, destination: str | None, last_synced: str | None, *, is_owner: bool = False
) -> Decision:
    """Whether the file `source` may overwrite `destination`; all three are SHA-256 values.

    `destination` is None where no checksum is stored with it, `last_synced` where it is not known.
    `is_owner`: the source side has the run's result, so its files are the right ones.
    """
    if destination == source:
        return Decision.EQUAL
    if is_owner or (destination is not None and destination == last_synced):
        return Decision.OVERWRITE
    return Decision.DESTINATION_IS_NEWER if source == last_synced else Decision.CONFLICT
