"""Links and special files in the folder of a run: sent, or named; never passed over."""

from __future__ import annotations

import os
import shutil

import pytest
from support.bucket_trees import files, write_output
from support.grids import make_grid
from support.memory_bucket import MemoryBucket

from merge.results.collect import collect
from merge.storage.paths import SweepPaths
from orchestrator.sync import verify as verify_module
from orchestrator.sync.pull import Pull, prepare_pull
from orchestrator.sync.push import Push, prepare_push
from orchestrator.sync.selection import Selection
from orchestrator.sync.verify import Verify

SWEEP = make_grid(folds=(0, 1))
RUN = SWEEP.runs[0]


@pytest.fixture
def output(tmp_path):
    return write_output(tmp_path / "here", SWEEP, SWEEP.runs)


@pytest.fixture
def bucket(monkeypatch) -> MemoryBucket:
    made = MemoryBucket()
    monkeypatch.setattr(
        verify_module, "read_ranges", lambda bucket, listed: [bucket.objects[listed.name]]
    )
    return made


def push(output, bucket, selection=None) -> Push:
    transfer = Push.between(output, bucket, selection)
    transfer.push_all(prepare_push(transfer))
    return transfer


def pull(output, bucket) -> Pull:
    transfer = Pull.between(output, bucket)
    transfer.pull_all(prepare_pull(transfer))
    return transfer


def move_away(path, archive):
    """Move a file or folder into an archive, and put a link in its place."""
    archive.mkdir(exist_ok=True)
    target = archive / path.name
    path.rename(target)
    path.symlink_to(target)
    return target


@pytest.mark.parametrize(
    "name",
    [
        "result.json",
        "attempts/0001/stdout.log",
        "attempts/0001",
        "attempts",
        "checkpoints/last.pt",
        "checkpoints",
        "",
    ],
)
def test_what_was_moved_to_an_archive_and_linked_is_sent(output, bucket, tmp_path, name):
    whole = files(output)
    move_away(output / RUN.path / name, tmp_path / "archive")
    sent = push(output, bucket)
    assert sent.report.issues == ()
    assert {n: bucket.objects[n] for n in whole} == whole
    assert Verify.between(output, bucket).compare_all().exit_code == 0
    shutil.rmtree(SweepPaths(output).sync.root)
    assert pull(output, bucket).report.transferred == {}
    assert len(collect(output).results) == 2
    assert len([n for n in bucket.objects if n.endswith("/result.json")]) == 2


def test_a_link_within_the_output_folder_is_sent(output, bucket):
    (output / RUN.path / "latest.txt").symlink_to("attempts/0001/stdout.log")
    push(output, bucket)
    assert bucket.objects[f"{RUN.path}/latest.txt"] == f"trained {RUN.run_id}\n".encode()


def link_out(folder, tmp_path):
    (tmp_path / "secret").write_text("of this machine")
    (folder / "odd").symlink_to(tmp_path / "secret")


def link_to_folder(folder, tmp_path):
    (tmp_path / "data").mkdir()
    (folder / "odd").symlink_to(tmp_path / "data")


def link_in_circle(folder, tmp_path):
    (folder / "odd").symlink_to("odd")


def link_above(folder, tmp_path):
    (folder / "odd").symlink_to("..")


def link_to_nothing(folder, tmp_path):
    (folder / "odd").symlink_to(tmp_path / "nothing")


def pipe(folder, tmp_path):
    os.mkfifo(folder / "odd")


@pytest.mark.parametrize(
    "make", [link_out, link_to_folder, link_in_circle, link_above, link_to_nothing, pipe]
)
def test_what_is_left_out_is_named_and_nothing_is_equal(output, bucket, tmp_path, make):
    make(output / RUN.path, tmp_path)
    name = f"{RUN.path}/odd"
    sent = push(output, bucket)
    assert [issue.name for issue in sent.report.issues] == [name]
    assert "not sent" in sent.report.issues[0].reason
    assert sent.report.exit_code == 1
    assert name not in bucket.objects
    verified = Verify.between(output, bucket).compare_all()
    assert ([issue.name for issue in verified.missing], verified.exit_code) == ([name], 3)
    selection = Selection(exclude=("*/odd",))
    assert push(output, bucket, selection).report.exit_code == 0
    assert Verify.between(output, bucket, selection).compare_all().exit_code == 0


def test_a_result_whose_archive_is_away_is_neither_sent_nor_replaced(output, bucket, tmp_path):
    push(output, bucket)
    target = move_away(SweepPaths(output).run(RUN.path).result, tmp_path / "archive")
    target.unlink()
    assert (
        f"is a link to {target}, which is not there" in push(output, bucket).report.issues[0].reason
    )
    fetched = pull(output, bucket)
    assert fetched.report.exit_code == 1
    assert "restore it, or remove the link" in fetched.report.problems[0].reason
    SweepPaths(output).run(RUN.path).result.unlink()
    assert pull(output, bucket).report.exit_code == 0


def test_no_object_is_written_through_a_link_out_of_the_folder(output, bucket, tmp_path):
    push(output, bucket)
    bucket.objects[f"{RUN.path}/odd/passwd"] = b"evil"
    link_to_folder(output / RUN.path, tmp_path)
    fetched = pull(output, bucket)
    assert "is a link to the folder" in fetched.report.problems[0].reason
    assert list((tmp_path / "data").iterdir()) == []


def test_a_pipe_in_the_place_of_a_result_keeps_no_pull_waiting(output, bucket):
    push(output, bucket)
    result = SweepPaths(output).run(RUN.path).result
    result.unlink()
    os.mkfifo(result)
    fetched = pull(output, bucket)
    assert f"{result} is not a regular file: move it away" in fetched.report.problems[0].reason
