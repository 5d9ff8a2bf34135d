"""What killed writers left is removed once it is old, and nothing else."""

from __future__ import annotations

import os
import time

from merge.storage.leftovers import LEFT_AFTER_S, remove_leftovers

HALF_WRITTEN = ".last.pt.123.0123abcd.tmp"
YOUNG = ".last.pt.124.0123abcd.tmp"
FOREIGN = ".last.pt.tmp"
FOLDER = ".0123456789abcdef.tmp"


def test_only_old_temporary_files_and_folders_of_ours_are_removed(tmp_path):
    for name in (HALF_WRITTEN, YOUNG, FOREIGN, "last.pt"):
        (tmp_path / name).touch()
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "file").touch()
    then = time.time() - LEFT_AFTER_S - 60
    for name in (HALF_WRITTEN, FOREIGN, FOLDER, "last.pt"):
        os.utime(tmp_path / name, (then, then))
    remove_leftovers([tmp_path, tmp_path / "absent"])
    assert {path.name for path in tmp_path.iterdir()} == {YOUNG, FOREIGN, "last.pt"}
