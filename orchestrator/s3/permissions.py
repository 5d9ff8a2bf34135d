"""What these credentials may do at one place in a bucket, tried on an object of its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from merge.errors import PapergridError
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.conditional_writes import honours_conditions, refuse_claims_without_conditions
from orchestrator.s3.url import BucketTarget


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that sync needs, or would use."""

    name: str
    """`connect`, `list`, `put`, `get`, `conditional put`, `delete`."""
    is_given: bool
    is_needed: bool
    """Without `delete` only probes stay behind; without `conditional put` no merged JSON, and no
    claims."""
    reason: str = ""
    """Why not, and what to do."""


def bucket_check(target: BucketTarget, *, for_claims: bool = False) -> tuple[Right, ...]:
    """Try list, put, get, conditional put and delete on a probe under `target`; raises nothing.

    What cannot be tried because something before it failed is not in the answer. `for_claims`:
    conditional puts are needed, since runs are to be claimed there.
    """
    name = f".papergrid-check-{secrets.token_hex(6)}"
    data = b"papergrid tries what it may do here\n"
    try:
        bucket = Bucket(target)
    except PapergridError as error:
        return (Right("connect", is_given=False, is_needed=True, reason=str(error)),)
    rights = [_try("list", lambda: next(iter(bucket.list(name)), None))]
    if rights[-1].is_given:
        rights.append(_try("put", lambda: bucket.put(name, data)))
    if rights[-1].is_given:
        rights.append(_try("get", lambda: _get(bucket, name, data)))
        conditions = refuse_claims_without_conditions if for_claims else _conditions
        rights.append(_try("conditional put", lambda: conditions(bucket), is_needed=for_claims))
        rights.append(_try("delete", lambda: bucket.delete(name), is_needed=False))
    return tuple(rights)


def _try(name: str, action: Callable[[], object], *, is_needed: bool = True) -> Right:
    try:
        action()
    except PapergridError as error:
        return Right(name, is_given=False, is_needed=is_needed, reason=str(error))
    return Right(name, is_given=True, is_needed=is_needed)


def _get(bucket: Bucket, name: str, data: bytes) -> None:
    answer = bucket.get(name)
    if answer is None or answer[0] != data:
        raise PapergridError(
            f"{bucket.target.url}: what was put is not what comes back: no result is safe there"
        )


def _conditions(bucket: Bucket) -> None:
    if not honours_conditions(bucket):
        raise PapergridError(
            "this store ignores conditional writes: results are sent, the merged JSON is not; give "
            "`replicate sync pull` and `replicate merge` on one machine"
        )
