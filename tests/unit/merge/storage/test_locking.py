"""What is made from many files by many writers: who writes last has read all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.results.result_files import result_files
from merge.storage.locking import exclusively
from merge.storage.mounts import find_mount, mount_of

MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:30 / /data rw,relatime shared:1 - nfs 10.0.0.1:/data rw,vers=3,nolock
31 30 0:31 / /data/with\040space rw - fuse.sshfs host: rw
32 22 0:32 / /scratch rw - nfs4 10.0.0.1:/scratch rw,vers=4.2
33 32 0:33 / /scratch rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_local"),
    [
        ("/home/me/out", "ext4", True),
        ("/data", "nfs", False),
        ("/data/sweep", "nfs", False),
        ("/database", "ext4", True),
        ("/data/with space/sweep", "fuse.sshfs", False),
        ("/scratch/sweep", "tmpfs", True),
    ],
)
def test_a_path_is_on_the_innermost_and_newest_mount(path, kind, is_local):
    mount = find_mount(MOUNTS, Path(path))
    assert (mount.kind, mount.is_local) == (kind, is_local)


def test_a_folder_that_is_not_there_yet_has_a_mount(tmp_path):
    assert mount_of(tmp_path / "not" / "there").kind != "unknown"


def test_where_a_lock_may_not_exclude_news_is_written_before_it_is_over(tmp_path):
    """Two writers that no lock keeps apart: the slower one wrote what it had read before."""
    files, view = [1], []

    def slow_write() -> None:
        read = list(files)
        if len(view) < 3:
            files.append(len(files) + 1)
        view.append(read)

    exclusively(tmp_path / "lock", slow_write, lambda: list(files), is_local=False)
    assert view[-1] == files == [1, 2, 3, 4]


def test_where_a_lock_excludes_all_it_is_done_once(tmp_path):
    done = []
    exclusively(tmp_path / "lock", lambda: done.append(1), lambda: len(done), is_local=True)
    assert done == [1]


def test_results_of_runs_and_those_aside_count_as_seen(tmp_path):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    first, second = sweep.runs[:2]
    assert result_files(tmp_path, sweep) == frozenset()
    write_result(tmp_path, first, 0.5)
    paths.run(second.path).root.mkdir(parents=True)
    paths.run(second.path).result_aside("late").write_text("{}")
    assert result_files(tmp_path, sweep) == {
        f"{tmp_path}/{first.path}/result.json",
        f"{tmp_path}/{second.path}/result.aside-late.json",
    }


def test_a_run_whose_folder_is_kept_from_this_user_keeps_no_other_from_being_seen(tmp_path):
    """Here by a file in its place, which even root can write nothing into."""
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    first, second = sweep.runs[:2]
    write_result(tmp_path, first, 0.5)
    paths.run(second.path).root.write_text("no folder")
    assert result_files(tmp_path, sweep) == {f"{tmp_path}/{first.path}/result.json"}
