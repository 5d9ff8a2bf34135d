"""Where a sweep sends its finished runs, and how patiently. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.s3.url import BucketTarget

SYNC_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """Where finished runs are sent while the sweep runs."""

    target: BucketTarget
    has_claims: bool = False
    """Whether hosts that share no folder also share the runs through this place."""
    patience_s: float = SYNC_PATIENCE_S
    """At the end, seconds to keep trying while nothing can be sent."""
