"""What to do with one file that is on one side or on both: pure, by comparing SHA-256 values.

`agreed` is what both sides were when they were last equal. Whoever changed since then is newer;
where both changed, or nobody remembers, nothing is overwritten unless the result says whose it is.
"""

from __future__ import annotations

from enum import StrEnum


class Decision(StrEnum):
    MOVE = "move"
    SAME = "same"
    OTHER_IS_NEWER = "other is newer"
    """The side that would be overwritten has changed since, ours has not."""
    CONFLICT = "conflict"
    """Both sides changed."""


def decide(
    ours: str, theirs: str | None, agreed: str | None, *, is_owner: bool = False
) -> Decision:
    """Whether the file `ours` may replace `theirs`, which is there with this SHA-256.

    `theirs` is None where no checksum is stored with it. `is_owner` says that our side has the
    run's result: its files are the right ones.
    """
    if theirs == ours:
        return Decision.SAME
    if is_owner or (theirs is not None and theirs == agreed):
        return Decision.MOVE
    return Decision.OTHER_IS_NEWER if ours == agreed else Decision.CONFLICT
