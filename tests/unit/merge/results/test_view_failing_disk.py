"""A merge on a file system that fails at any one operation, or from any one on."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
from support.failing_disk import every_fault, failing_system
from support.grids import make_grid, write_result, write_sweep

from merge.errors import PapergridError, StorageError
from merge.results.view import rebuild
from merge.storage import passing_failures
from merge.storage.paths import SweepPaths


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """The waits between repetitions are real ones, and so is the disk."""
    monkeypatch.setattr(passing_failures.repeated, "__defaults__", ((0, 0, 0), lambda _: None))
    # Hundreds of merges: what a power cut leaves is not asked here.
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_a_view_is_always_whole_and_names_what_it_lacks(tmp_path):
    """The next merge makes what an undisturbed one makes, byte for byte."""
    sweep = make_grid(folds=(0, 1, 2))
    before = tmp_path / "before"
    paths = write_sweep(before, sweep)
    for run in sweep.runs[:2]:
        write_result(before, run, 0.5)
    rebuild(before)
    write_result(before, sweep.runs[2], 0.75)
    output = tmp_path / "output"
    shutil.copytree(before, output)
    rebuild(output)
    whole = SweepPaths(output).results.read_bytes()
    old = paths.results.read_bytes()
    errors: list[PapergridError] = []
    for fault_at in every_fault(lasting=[errno.EIO]):
        for at in range(100):
            shutil.rmtree(output)
            shutil.copytree(before, output)
            fault, problems = fault_at(at), []
            try:
                with failing_system(fault, output):
                    problems = rebuild(output).problems
            except PapergridError as error:
                errors.append(error)
            if not fault.has_struck:
                break
            view = SweepPaths(output).results.read_bytes()
            assert json.loads(view)
            assert view in (old, whole) or problems, fault
            rebuild(output)
            assert SweepPaths(output).results.read_bytes() == whole
        assert at > 5
    assert errors
    # Also of a plan that cannot be read, whose error is a RecordError too.
    assert [error for error in errors if not isinstance(error, StorageError)] == []
