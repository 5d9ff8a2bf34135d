"""Which runs of a folder are not pulled, because a live process trains them there."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from support.grids import make_grid

from merge.storage.disk import SystemDisk
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Taken, release, take
from orchestrator.sync.pull import is_running_here

RUN = make_grid().runs[0]
ELSEWHERE = replace(this_owner(), host="elsewhere")


def claim(output, owner, heartbeat):
    taken = take(
        SweepPaths(output).run(RUN.path), RUN.config_hash, owner, now=heartbeat, expiry_s=60
    )
    assert isinstance(taken, Taken)
    return taken.claim


@pytest.mark.parametrize("clock_ahead_s", [-7200, 7200])
def test_the_clock_of_another_host_decides_nothing(tmp_path, clock_ahead_s):
    written = claim(tmp_path, ELSEWHERE, time.time() + clock_ahead_s)
    assert is_running_here(tmp_path, RUN)
    path = SweepPaths(tmp_path).run(RUN.path).claim(written.number)
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    assert not is_running_here(tmp_path, RUN)


def test_a_run_of_a_living_process_here_is_running_until_it_is_released(tmp_path):
    written = claim(tmp_path, this_owner(), 0.0)
    assert is_running_here(tmp_path, RUN)
    release(SweepPaths(tmp_path).run(RUN.path), written)
    assert not is_running_here(tmp_path, RUN)


def test_a_run_that_was_never_claimed_is_not_running(tmp_path):
    assert not is_running_here(tmp_path, RUN)


@pytest.mark.parametrize(("written_ago_s", "is_running"), [(0, True), (3600, False)])
def test_a_dry_run_writes_nothing_to_learn_who_runs(
    tmp_path, monkeypatch, written_ago_s, is_running
):
    path = SweepPaths(tmp_path).run(RUN.path).claim(claim(tmp_path, ELSEWHERE, 0.0).number)
    written = time.time() - written_ago_s
    os.utime(path, (written, written))

    def refuse(*_: object) -> None:
        raise AssertionError("a file is written")

    monkeypatch.setattr(SystemDisk, "create", refuse)
    assert is_running_here(tmp_path, RUN, is_dry=True) is is_running
    with pytest.raises(AssertionError, match="a file is written"):
        is_running_here(tmp_path, RUN)
