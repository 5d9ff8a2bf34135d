"""How old the objects of a bucket are, where nothing may be written to ask the store for its time.

The time in an answer may be that of a proxy, and our own clock may be wrong too: neither counts
alone. What has passed by both has passed; and the store's clock is past its newest object.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_AGREEMENT = timedelta(seconds=30)
"""Half of what a claim lasts by default; hosts with NTP differ by less than a second."""


@dataclass(frozen=True, slots=True)
class StoreTime:
    """The time of a store, as far as it is known."""

    at_least: datetime
    is_known: bool
    """Whether it is about that time; else nothing but `at_least` is known."""

    def least_age_s(self, modified: datetime) -> float:
        """Seconds that have passed at least since the store wrote an object."""
        return max(0.0, (self.at_least - modified).total_seconds())


def store_time(*, newest: datetime, answered: datetime, own: float) -> StoreTime:
    """The time of a store whose newest object has the time `newest`.

    `answered` is the time that an answer carried, `own` ours, in Unix seconds.
    """
    here = datetime.fromtimestamp(own, UTC)
    is_known = abs(here - answered) <= _AGREEMENT and answered + _AGREEMENT >= newest
    return StoreTime(max(newest, min(here, answered)), is_known)
