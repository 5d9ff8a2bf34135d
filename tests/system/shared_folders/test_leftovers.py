"""What a writer that was killed in the middle of a file leaves: removed, never under a writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.executors import run_here, wait_until
from support.grids import make_grid
from support.grids import write_sweep as write_grid
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.results.view import rebuild
from merge.storage.atomic import is_temporary
from merge.storage.json_files import write_json
from merge.storage.leftovers import LEFT_AFTER_S, remove_leftovers
from merge.storage.paths import SweepPaths

pytestmark = pytest.mark.system

HANG_IN_WRITE = """
import sys, time
from pathlib import Path
from merge.storage.atomic import (write_atomic)
def write(file):
    file.write(b"half")
    file.flush()
    time.sleep(600)
write_atomic(Path(sys.argv[1]), write)
"""


def leave_half(path: Path) -> Path:
    """The temporary file of a writer of `path` that gets a real SIGKILL in the middle of it."""
    root = Path(__file__).resolve().parents[3]
    before = temporaries(path.parent)
    writer = subprocess.Popen([sys.executable, "-c", HANG_IN_WRITE, path], cwd=root)

    def is_half_written() -> bool:
        return any(found.read_bytes() == b"half" for found in temporaries(path.parent) - before)

    wait_until(is_half_written, "a half-written file", 60)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (left,) = temporaries(path.parent) - before
    return left


def temporaries(folder: Path) -> set[Path]:
    return {path for path in folder.glob(".*") if is_temporary(path.name)}


def make_older(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_merge_removes_what_killed_writers_left_long_ago(tmp_path):
    sweep = make_grid()
    write_grid(tmp_path, sweep)
    places = (tmp_path / "replication_results.json", tmp_path / sweep.runs[0].path / "result.json")
    left = [leave_half(place) for place in places]
    rebuild(tmp_path)
    assert all(path.exists() for path in left), "a writer of a moment ago may live"
    for path in left:
        make_older(path, LEFT_AFTER_S)
    rebuild(tmp_path)
    assert not any(path.exists() for path in left)


def test_the_end_of_an_attempt_clears_the_folders_of_its_run(tmp_path):
    sweep = make_sweep(shell('[ "$PAPERGRID_ATTEMPT" -gt 1 ] || exit 1;' + LEAVE_RESULT))
    write_sweep(tmp_path, sweep)
    run_here(sweep, tmp_path)
    paths = SweepPaths(tmp_path).run(sweep.runs[0].path)
    paths.checkpoints.mkdir()
    places = (paths.claim(1), paths.attempt(1).record, paths.last_checkpoint)
    left = [leave_half(place) for place in places]
    for path in left[:-1]:
        make_older(path, LEFT_AFTER_S)
    assert run_here(sweep, tmp_path).exit_code == 0
    assert [path.exists() for path in left] == [False, False, True]


def test_what_others_named_so_stays_and_a_folder_that_is_not_there_is_none(tmp_path):
    kept = tmp_path / ".mine.tmp"
    write_json(kept, {})
    half_a_folder = tmp_path / ".0123456789abcdef.tmp"
    (half_a_folder / "deep").mkdir(parents=True)
    for path in (kept, half_a_folder):
        make_older(path, 2 * LEFT_AFTER_S)
    remove_leftovers([tmp_path, tmp_path / "gone"])
    assert kept.exists()
    assert not half_a_folder.exists()
    assert not (tmp_path / "gone").exists()
