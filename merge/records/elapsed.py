"""How long an attempt or a run took: never negative, also where a clock was set meanwhile. Pure."""

from __future__ import annotations

LONGEST_S = 366 * 86_400.0
"""No attempt lasts a year: a longer one is a clock that was set, from 1970 for example."""


def elapsed_s(started: float, ended: float | None, measured_s: float | None = None) -> float | None:
    """Seconds from `started` to `ended`, both in Unix time; None where no clock can be believed.

    `measured_s` is the same by a clock that is never set; records of older versions have none.
    """
    if is_duration(measured_s):
        return measured_s
    between = None if ended is None else ended - started
    return between if is_duration(between) else None


def is_duration(seconds: float | None) -> bool:
    """Whether an attempt can have lasted `seconds`."""
    return seconds is not None and 0 <= seconds <= LONGEST_S
