"""What a command left as its run's result.json is moved away, and a result never is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from merge.storage import passing_failures
from merge.storage.disk import SystemDisk
from merge.storage.paths import RunPaths
from orchestrator.runs.misplaced import set_misplaced_aside


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    paths = RunPaths(tmp_path / "run")
    paths.attempt(1).root.mkdir(parents=True)
    return paths


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_result_that_cannot_be_read_is_not_moved(paths, monkeypatch, number):
    def refused(_disk: SystemDisk, path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(passing_failures.repeated, "__defaults__", ((0, 0, 0), lambda _: None))
    paths.result.write_text("{}")
    monkeypatch.setattr(SystemDisk, "read", refused)
    assert set_misplaced_aside(paths, 1, is_new=True) is None
    assert paths.result.exists()


@pytest.mark.parametrize("make", [lambda path: path.write_text("score 0.5"), os.mkfifo])
def test_what_is_no_json_is_moved_only_if_the_attempt_made_it(paths, make):
    make(paths.result)
    assert set_misplaced_aside(paths, 1) is None
    assert set_misplaced_aside(paths, 1, is_new=True) == paths.attempt(1).misplaced_result
    assert not paths.has_result()
