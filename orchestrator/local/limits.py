"""Default time limits of a sweep on one machine; light, for the flags that show them."""

from __future__ import annotations

from typing import Final, Literal

GpusInUse = Literal["wait", "skip", "use"]
GPUS_IN_USE: Final[tuple[GpusInUse, ...]] = ("wait", "skip", "use")
"""What to do about GPUs that other processes use."""
GRACE_S = 120.0
"""Time for a trainer to write its checkpoint when it is asked to stop."""
BEATS_PER_EXPIRY = 6
"""Heartbeats that must all be missed before an owner counts as dead."""
SHORTEST_EXPIRY_S = 1.0
LONGEST_EXPIRY_S = 86400.0
