"""Fixtures that all suites share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.skips import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]

# How long an example takes says how busy the machine is; CI must judge a change, not its luck.
settings.register_profile(
    "papergrid",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("papergrid")

# In the background of a script SIGINT is ignored, under nohup SIGHUP, and so they would be by all
# that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with `coco-mini/` (photographs) and `pascal-masks/` (label maps)."""
    named = os.environ.get("PAPERGRID_TEST_DATA")
    if not named:
        pytest.skip("real data: PAPERGRID_TEST_DATA is not set")
    folder = Path(named).resolve()
    for part in ("coco-mini", "pascal-masks"):
        if not (folder / part).is_dir():
            pytest.skip(f"real data: {folder} has no folder {part}")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT
