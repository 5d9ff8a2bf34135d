"""What these credentials may do at one place in a bucket, tried on a probe object."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from merge.errors import PapergridError
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.conditional_writes import (
    require_exclusive_claims,
    supports_conditional_writes,
)
from orchestrator.s3.url import BucketTarget


@dataclass(frozen=True, slots=True)
class Permission:
    """One operation that sync needs, or would use."""

    name: str
    """`connect`, `list`, `put`, `get`, `conditional put`, `delete`."""
    is_given: bool
    is_needed: bool
    """Without `delete` only probes stay behind; without `conditional put` there is no merged JSON
    and no claims."""
    reason: str = ""
    """Why it is not given, and what to do."""


def check_permissions(target: BucketTarget, *, for_claims: bool = False) -> tuple[Permission, ...]:
    """Try list, put, get, conditional put and delete on a probe under `target`; raises nothing.

    Operations that could not be tried because one before them failed are left out. With
    `for_claims` conditional puts are needed.
    """
    # A name of its own, since several hosts check at once; hidden, so that sync ignores it.
    name = f".papergrid-check-{secrets.token_hex(6)}"
    data = b"papergrid tries what it may do here\n"
    try:
        bucket = Bucket(target)
    except PapergridError as error:
        return (Permission("connect", is_given=False, is_needed=True, reason=str(error)),)
    found = [_try("list", lambda: next(iter(bucket.list(name)), None))]
    if found[-1].is_given:
        found.append(_try("put", lambda: bucket.put(name, data)))
    if found[-1].is_given:
        found.append(_try("get", lambda: _get(bucket, name, data)))
        conditions = require_exclusive_claims if for_claims else _conditional_put
        found.append(_try("conditional put", lambda: conditions(bucket), is_needed=for_claims))
        found.append(_try("delete", lambda: bucket.delete(name), is_needed=False))
    return tuple(found)


def _try(name: str, action: Callable[[], object], *, is_needed: bool = True) -> Permission:
    try:
        action()
    except PapergridError as error:
        return Permission(name, is_given=False, is_needed=is_needed, reason=str(error))
    return Permission(name, is_given=True, is_needed=is_needed)


def _get(bucket: Bucket, name: str, data: bytes) -> None:
    answer = bucket.get(name)
    if answer is None or answer[0] != data:
        raise PapergridError(
            f"{bucket.target.url}: an object reads back with other content than was written: no "
            f"result is safe there, use another bucket or endpoint"
        )


def _conditional_put(bucket: Bucket) -> None:
    if not supports_conditional_writes(bucket):
        raise PapergridError(
            f"{bucket.server} ignores conditional writes: results are sent, the merged JSON is "
            f"not; run `replicate sync pull` and `replicate merge` on one machine"
        )
