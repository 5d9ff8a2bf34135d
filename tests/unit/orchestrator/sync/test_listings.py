"""Listings that lack objects which are there, and what must not be concluded from them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.bucket_trees import files, write_output
from support.grids import make_grid
from support.memory_bucket import MemoryBucket

from merge.errors import BucketUnavailableError
from merge.storage.json_files import parse_json
from merge.storage.paths import SweepPaths
from orchestrator.bucket_claims.remote_claims import RemoteClaims
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Taken
from orchestrator.s3.objects import ListedObject
from orchestrator.sync import listing as module
from orchestrator.sync.cache import SyncCache
from orchestrator.sync.listing import list_objects
from orchestrator.sync.merged_view import MERGED_VIEW, update_merged_view
from orchestrator.sync.pull import Pull, prepare_pull
from orchestrator.sync.push import Push, prepare_push

SWEEP = make_grid()


class ForgetfulBucket(MemoryBucket):
    """Leaves `hidden` out of its next `num_lies` listings."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[str] = set()
        self.num_lies = 0

    def list(self, name_prefix: str = "") -> Iterator[ListedObject]:
        lies = self.num_lies > 0
        self.num_lies -= 1
        for listed in super().list(name_prefix):
            if not (lies and listed.name in self.hidden):
                yield listed


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(module, "backoff_s", lambda _: 0.0)


@pytest.fixture
def output(tmp_path):
    return write_output(tmp_path / "here", SWEEP, SWEEP.runs)


@pytest.fixture
def bucket(output) -> ForgetfulBucket:
    """Holds all four runs and their merged view."""
    made = ForgetfulBucket()
    push(made, output)
    return made


def push(bucket, output) -> Push:
    push = Push.between(output, bucket)
    sweep = prepare_push(push)
    push.push_all(sweep)
    update_merged_view(bucket, push.cache, sweep)
    push.cache.save()
    return push


def counted(bucket) -> int:
    (cell,) = parse_json("view", bucket.objects[MERGED_VIEW])["results"].values()
    return int(cell["n"])


def hide(bucket, num_lies, suffix="") -> None:
    bucket.hidden = {name for name in bucket.objects if name.endswith(suffix)}
    bucket.num_lies = num_lies


@pytest.mark.parametrize("suffix", ["", "fold0/result.json"])
def test_a_listing_that_lacks_what_was_sent_is_not_believed(bucket, output, suffix):
    assert counted(bucket) == 4
    hide(bucket, 2, suffix)
    again = push(bucket, output)
    assert counted(bucket) == 4
    assert again.report.issues == ()
    assert again.report.transferred == {}
    hide(bucket, 100, suffix)
    with pytest.raises(BucketUnavailableError, match="which is there"):
        push(bucket, output)
    assert counted(bucket) == 4


def test_an_empty_listing_beside_a_plan_is_not_believed_where_nothing_else_is_known(
    bucket, output, tmp_path
):
    hide(bucket, 1)
    pull = Pull.between(tmp_path / "there", bucket)
    pull.pull_all(prepare_pull(pull))
    assert files(tmp_path / "there") == files(output)


def test_what_was_really_removed_is_forgotten_and_sent_again(bucket, output):
    name = f"{SWEEP.runs[0].path}/checkpoints/last.pt"
    del bucket.objects[name]
    assert name not in list_objects(bucket, SyncCache(output, bucket))
    again = push(bucket, output)
    assert set(again.report.transferred) == {name}


def test_the_merged_view_keeps_a_result_that_no_listing_shows(bucket, tmp_path):
    """On a machine that knows nothing of the bucket but its plan and its view."""
    hide(bucket, 1, "fold0/result.json")
    cache = SyncCache(tmp_path / "other", bucket)
    update_merged_view(bucket, cache, SWEEP)
    assert counted(bucket) == 4
    hide(bucket, 1000, "fold0/result.json")
    with pytest.raises(BucketUnavailableError):
        update_merged_view(bucket, SyncCache(tmp_path / "third", bucket), SWEEP, QuickClock())
    assert counted(bucket) == 4


def test_the_merged_view_follows_a_result_that_was_removed(bucket, tmp_path):
    del bucket.objects[f"{SWEEP.runs[0].path}/result.json"]
    update_merged_view(bucket, SyncCache(tmp_path / "other", bucket), SWEEP)
    assert counted(bucket) == 3


def test_the_merged_view_keeps_runs_that_this_plan_does_not_have(bucket, tmp_path):
    smaller = make_grid(folds=(0, 1))
    cache = SyncCache(tmp_path / "other", bucket)
    with pytest.raises(BucketUnavailableError, match="stays as it is"):
        update_merged_view(bucket, cache, smaller, QuickClock())
    assert counted(bucket) == 4


def test_a_listing_without_our_claim_takes_no_run_away():
    bucket = ForgetfulBucket()
    claims = RemoteClaims(bucket)
    taken = claims.take("cell/fold0", this_owner(), now=0.0, expiry_s=60.0)
    assert isinstance(taken, Taken)
    hide(bucket, 1)
    with pytest.raises(BucketUnavailableError, match="leaves out"):
        claims.holds("cell/fold0", taken.claim)
    assert claims.holds("cell/fold0", taken.claim)
    bucket.objects.clear()
    assert not claims.holds("cell/fold0", taken.claim)


@pytest.mark.parametrize("sha256", [None, "0" * 64])
def test_a_result_is_put_aside_by_its_content_alone(bucket, output, monkeypatch, sha256):
    """A HEAD answer whose checksum is missing or damaged says nothing about the result."""
    from dataclasses import replace

    head = MemoryBucket.head
    monkeypatch.setattr(
        ForgetfulBucket,
        "head",
        lambda self, name: replace(head(self, name), sha256=sha256, server_sha256=None),
    )
    fresh = Push.between(output, bucket)
    fresh.cache.forget(list(bucket.objects))
    fresh.push_run(SWEEP.runs[0])
    assert fresh.report.aside == []
    assert not [name for name in bucket.objects if "aside" in name]


def test_files_are_hashed_once_more_until_their_time_stamp_is_proven(bucket, output, monkeypatch):
    from orchestrator.s3.upload import Snapshot

    clock = QuickClock()
    reads = []
    sha256 = Snapshot.sha256
    monkeypatch.setattr(Snapshot, "sha256", lambda self: reads.append(1) or sha256(self))
    name = SweepPaths(output).sweep.name

    def look() -> int:
        from orchestrator.s3.upload import snapshot

        reads.clear()
        cache = SyncCache(output, bucket, clock)
        with snapshot(output / name) as source:
            cache.local_sha256(name, source)
        cache.save()
        return len(reads)

    assert look() == 1
    clock.sleep(1.0)
    assert look() == 1, "it may have changed within one tick of its time stamp"
    clock.sleep(1.5)
    assert look() == 1
    assert look() == 0


class QuickClock:
    """Waits in no time."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> float:
        raise AssertionError("no clock of a host is compared with a file's time")

    def monotonic(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds
