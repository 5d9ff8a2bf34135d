"""What may be chosen about claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from merge.errors import UsageError
from orchestrator.local.settings import LocalSettings, with_claim_expiry
from orchestrator.machine.devices import Devices

SETTINGS = LocalSettings(devices=Devices(kind="cpu", slots=("cpu0",)), cache_dir=Path("cache"))


def test_a_sign_of_life_is_given_six_times_before_a_claim_expires():
    chosen = with_claim_expiry(SETTINGS, expiry_s=30, stand_by=True)
    assert (chosen.expiry_s, chosen.heartbeat_s, chosen.stand_by) == (30, 5, True)


@pytest.mark.parametrize("expiry_s", [0.0, -1.0, 0.5, 1e6, float("nan")])
def test_an_expiry_that_would_lose_or_block_runs_is_refused(expiry_s):
    with pytest.raises(UsageError, match=r"--claim-expiry .*choose from 1 s to a day"):
        with_claim_expiry(SETTINGS, expiry_s=expiry_s, stand_by=False)
