"""Listings of a place in a bucket, checked against what is known to be there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from merge.errors import BucketUnavailableError
from merge.storage.clock import SYSTEM_CLOCK, Clock
from orchestrator.s3.backoff import backoff_s
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.objects import ListedObject
from orchestrator.sync.cache import SyncCache
from orchestrator.sync.plan import PLAN

Listing = Mapping[str, ListedObject]
"""Objects by name."""

_MAX_ROUNDS = 4


def list_objects(
    bucket: Bucket, cache: SyncCache, name_prefix: str = "", clock: Clock = SYSTEM_CLOCK
) -> Listing:
    """The objects whose name begins with `name_prefix`: all, or a folder's with its slash.

    BucketUnavailableError where the listing goes on to lack an object that is there: what is
    absent from an answer is not thereby deleted.
    """
    for attempt in range(_MAX_ROUNDS):
        listing = {listed.name: listed for listed in bucket.list(name_prefix)}
        known = cache.known_names(name_prefix) | ({PLAN} if not name_prefix else set())
        lost = sorted(known - listing.keys())
        hidden = first_present(bucket, lost)
        if hidden is None:
            # Removed by a person or a lifecycle rule.
            cache.forget(lost)
            return listing
        clock.sleep(backoff_s(attempt))
    raise BucketUnavailableError(
        f"listings of {bucket.target.url} leave out {hidden}, which is there: nothing is concluded "
        f"from them; run the same command again later"
    )


def first_present(bucket: Bucket, names: Iterable[str]) -> str | None:
    """The first of these objects that is there, each asked for by its name; None if none is."""
    return next((name for name in names if bucket.head(name) is not None), None)
