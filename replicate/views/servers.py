"""The servers of a sweep, as `status` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from replicate.views.columns import align
from replicate.views.table import age

if TYPE_CHECKING:
    from orchestrator.servers.status import ServerStatus


def server_lines(servers: Sequence[ServerStatus]) -> list[str]:
    """A table with a server a row; empty where no submission went to servers."""
    if not servers:
        return []
    rows = [["server", "worker", "heartbeat", "runs given", "log", ""]]
    rows += [
        [
            each.server,
            each.reached or each.condition,
            age(each.heartbeat_age_s),
            str(each.num_runs),
            each.log,
            each.reason,
        ]
        for each in servers
    ]
    return align(rows, left=6)
