"""Whether a store honours conditional writes; without them nothing can be exclusive there."""

from __future__ import annotations

from merge.errors import BucketError
from orchestrator.s3.bucket import ABSENT, Bucket

PROBE = ".papergrid-probe"
_NOBODYS_ETAG = "0" * 32


def honours_conditions(bucket: Bucket) -> bool:
    """Whether this store refuses a write whose condition does not hold; asked once a process.

    Two puts that only the first of which may create, and one that may only replace what is not
    there. Any number of processes may ask at once.
    """
    if bucket.honours_conditions is None:
        bucket.honours_conditions = _ask(bucket)
    return bucket.honours_conditions


def refuse_claims_without_conditions(bucket: Bucket) -> None:
    """BucketError, with the way out, where the store ignores conditions: two could have a run."""
    if not honours_conditions(bucket):
        raise BucketError(
            f"{bucket.target.endpoint_url or 'this store'} ignores conditional writes, so no run "
            f"can be claimed there: share an output folder, or give each server its own --shard"
        )


def refuse_without_conditions(bucket: Bucket) -> None:
    """BucketError, with the way out, where the store ignores conditions."""
    if not honours_conditions(bucket):
        raise BucketError(
            f"{bucket.target.endpoint_url or 'this store'} ignores conditional writes (If-Match, "
            f"If-None-Match): the merged JSON in {bucket.target.url} could lose results of other "
            f"servers, so it is not written there. Results and checkpoints are sent; for the table "
            f"give `replicate sync pull OUT {bucket.target.url}` and `replicate merge OUT` on one "
            f"machine. Let no two servers run the same run: there the later result would replace "
            f"the earlier"
        )


def _ask(bucket: Bucket) -> bool:
    bucket.put(PROBE, b"papergrid asks whether this store honours conditions\n", only_if=ABSENT)
    return (
        bucket.put(PROBE, b"it does not\n", only_if=ABSENT) is None
        and bucket.put(PROBE, b"it does not\n", only_if=_NOBODYS_ETAG) is None
    )
