"""Whole syncs: what the command `replicate sync` calls."""

from __future__ import annotations

from pathlib import Path

from merge.errors import BucketError
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.merged_view import update_merged_view
from orchestrator.sync.pull import Pull, prepare_pull
from orchestrator.sync.push import Push, prepare_push
from orchestrator.sync.report import OnTransfer, SyncIssue, SyncReport, ignore_transfer
from orchestrator.sync.selection import Part, Selection
from orchestrator.sync.verify import Verify, VerifyReport


def push(
    output: Path,
    target: BucketTarget,
    selection: Selection,
    *,
    is_dry: bool = False,
    on_transfer: OnTransfer = ignore_transfer,
) -> SyncReport:
    """Send what changed in `output`, then bring the merged JSON in the bucket up to date.

    ConfigChangedError where the bucket plans a run differently, BucketError where the store
    refuses, BucketUnavailableError where it may answer later: then the same call resumes.
    """
    report = SyncReport(on_transfer=on_transfer)
    transfer = Push.between(output, Bucket(target), selection, report, is_dry=is_dry)
    sweep = prepare_push(transfer)
    transfer.push_all(sweep)
    if not is_dry and Part.RESULTS in selection.parts:
        try:
            update_merged_view(transfer.bucket, transfer.cache, sweep)
        except BucketError as error:
            report.problems.append(SyncIssue(str(target.url), str(error)))
        transfer.cache.save()
    return report


def pull(
    output: Path,
    target: BucketTarget,
    selection: Selection,
    *,
    is_dry: bool = False,
    on_transfer: OnTransfer = ignore_transfer,
) -> SyncReport:
    """Fetch what changed in the bucket into `output`, which is created where it is not there.

    Errors as `push`; IncompleteError where the bucket holds no plan.
    """
    report = SyncReport(on_transfer=on_transfer)
    transfer = Pull.between(output, Bucket(target), selection, report, is_dry=is_dry)
    transfer.pull_all(prepare_pull(transfer))
    return report


def verify(
    output: Path, target: BucketTarget, selection: Selection, *, is_quick: bool = False
) -> VerifyReport:
    """Compare every object with its stored checksum and with the file in `output`.

    IncompleteError where the folder or the bucket has no plan.
    """
    return Verify.between(output, Bucket(target), selection).compare_all(is_quick=is_quick)
