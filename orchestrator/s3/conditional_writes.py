"""Whether a store honours conditional writes; without them nothing can be exclusive there."""

from __future__ import annotations

from merge.errors import BucketError
from orchestrator.s3.bucket import ABSENT, Bucket

PROBE = ".papergrid-probe"
_ETAG_OF_NO_OBJECT = "0" * 32


def supports_conditional_writes(bucket: Bucket) -> bool:
    """Whether this store refuses a write whose condition does not hold; tried once per `bucket`.

    A store that ignores conditions accepts every write and says nothing, so only a try can tell.
    Any number of processes may try at once.
    """
    if bucket.has_conditional_writes is None:
        bucket.has_conditional_writes = _try_conditions(bucket)
    return bucket.has_conditional_writes


def require_exclusive_claims(bucket: Bucket) -> None:
    """BucketError, with a workaround, where two servers could claim the same run."""
    if not supports_conditional_writes(bucket):
        raise BucketError(
            f"{bucket.server} ignores conditional writes, so no run can be claimed there: share "
            f"an output folder, or give each server its own --shard"
        )


def require_safe_merging(bucket: Bucket) -> None:
    """BucketError, with a workaround, where a merged JSON could lose results."""
    if not supports_conditional_writes(bucket):
        place = bucket.target.url
        raise BucketError(
            f"{bucket.server} ignores conditional writes (If-Match, If-None-Match): the merged "
            f"JSON in {place} could lose results of other servers, so it is not written there. "
            f"Results and checkpoints are sent. For the table run `replicate sync pull OUT "
            f"{place}` and `replicate merge OUT` on one machine. Do not let two servers run the "
            f"same run: there the later result replaces the earlier one"
        )


def _try_conditions(bucket: Bucket) -> bool:
    # The first write may find the probe of another process; that is fine. After it there is one.
    bucket.put(PROBE, b"papergrid tries whether this store honours conditions\n", only_if=ABSENT)
    return (
        bucket.put(PROBE, b"it does not\n", only_if=ABSENT) is None
        and bucket.put(PROBE, b"it does not\n", only_if=_ETAG_OF_NO_OBJECT) is None
    )
