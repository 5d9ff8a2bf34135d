"""Sync in whole: what the verb `sync` and the flag `--sync` call."""

from __future__ import annotations

from pathlib import Path

from merge.errors import BucketError
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.cache import Memory
from orchestrator.sync.files import Part, Selection
from orchestrator.sync.merged_view import merge_in_bucket
from orchestrator.sync.pull import Pull
from orchestrator.sync.pull import prepare as prepare_pull
from orchestrator.sync.push import Push
from orchestrator.sync.push import prepare as prepare_push
from orchestrator.sync.report import Remark, SyncReport, Tell, tell_nobody
from orchestrator.sync.verify import Verified, Verify


def push(
    output: Path,
    target: BucketTarget,
    selection: Selection,
    *,
    is_dry: bool = False,
    tell: Tell = tell_nobody,
) -> SyncReport:
    """Send what changed in `output`, then bring the merged JSON in the bucket up to date.

    ConfigChangedError where the bucket holds another plan, BucketError where the store refuses,
    BucketUnavailableError where it may answer later: the same call then goes on.
    """
    bucket = Bucket(target)
    memory = Memory(output, bucket)
    report = SyncReport(tell=tell)
    way = Push(
        output=output,
        bucket=bucket,
        memory=memory,
        selection=selection,
        report=report,
        is_dry=is_dry,
    )
    sweep = prepare_push(way)
    way.everything(sweep)
    if not is_dry and Part.RESULTS in selection.parts:
        try:
            merge_in_bucket(bucket, memory, sweep)
        except BucketError as error:
            report.problems.append(Remark(str(target.url), str(error)))
        memory.save()
    return report


def pull(
    output: Path,
    target: BucketTarget,
    selection: Selection,
    *,
    is_dry: bool = False,
    tell: Tell = tell_nobody,
) -> SyncReport:
    """Fetch what changed in the bucket into `output`, which is made where it is not there.

    Errors as `push`; IncompleteError where the bucket holds no plan.
    """
    bucket = Bucket(target)
    report = SyncReport(tell=tell)
    way = Pull(
        output=output,
        bucket=bucket,
        memory=Memory(output, bucket),
        selection=selection,
        report=report,
        is_dry=is_dry,
    )
    way.everything(prepare_pull(way))
    return report


def verify(
    output: Path, target: BucketTarget, selection: Selection, *, is_quick: bool = False
) -> Verified:
    """Compare every object with its stored checksum and with the file in `output`."""
    bucket = Bucket(target)
    return Verify(
        output=output,
        bucket=bucket,
        memory=Memory(output, bucket),
        selection=selection,
        is_quick=is_quick,
    ).everything()
