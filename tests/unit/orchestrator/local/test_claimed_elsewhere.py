"""What is shown of a run that another executor has."""

from __future__ import annotations

from dataclasses import replace

from merge.records.records import Claim, Owner
from orchestrator.local.claimed_elsewhere import whose
from orchestrator.runs.claims import Busy

HERE = Owner(host="here", pid=1, pid_started="1", boot_id="a")
CLAIM = Claim(number=1, token="t", owner=HERE, heartbeat=1000.0)


def test_the_age_of_another_hosts_heartbeat_is_what_was_measured_and_not_a_difference_of_clocks():
    far = replace(CLAIM, owner=replace(HERE, host="far", boot_id="b", pid=7))
    ahead_by_an_hour = replace(far, heartbeat=4600.0)
    expected = "on far (process 7), last heartbeat 12 s ago"
    assert whose(Busy(far, 12.3), HERE, 1001.0) == expected
    assert whose(Busy(ahead_by_an_hour, 12.3), HERE, 1001.0) == expected
    assert whose(Busy(far), HERE, 1001.0) == "on far (process 7)"


def test_on_one_host_there_is_one_clock():
    other = replace(CLAIM, owner=replace(HERE, pid=7))
    assert whose(Busy(other), HERE, 1005.0) == "on here (process 7), last heartbeat 5 s ago"
    # It may have been set back.
    assert whose(Busy(other), HERE, 900.0) == "on here (process 7), last heartbeat 0 s ago"
