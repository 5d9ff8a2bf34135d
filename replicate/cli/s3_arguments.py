"""The flags that name a place in a bucket, for `sync` and for the verbs that take `--sync`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import BucketUnavailableError, UsageError
from merge.records.sweep import Run, Sweep

if TYPE_CHECKING:
    from orchestrator.bucket_claims.claims import FolderAndBucketClaims
    from orchestrator.local.events import LocalReport, RunEvent
    from orchestrator.local.settings import LocalSettings
    from orchestrator.plan.plan import Plan
    from orchestrator.s3.url import BucketTarget
    from orchestrator.sync.backlog import Backlog, SyncOutcome

_FLAGS = {
    "endpoint_url": "--endpoint-url",
    "aws_profile": "--aws-profile",
    "region": "--region",
    "sse": "--sse",
    "sse_kms_key_id": "--sse-kms-key-id",
    "max_concurrency": "--max-concurrency",
    "max_bandwidth": "--max-bandwidth",
}
_MOST_REQUESTS = 64
_PATIENCE_WHEN_STOPPED_S = 10.0


def add_sync(parser: argparse.ArgumentParser) -> None:
    """`--sync` and how its bucket is reached, for verbs that train."""
    group = parser.add_argument_group("copy to S3 (docs/s3.md)")
    group.add_argument(
        "--sync",
        metavar="S3URL",
        help="send each finished run to s3://BUCKET/PREFIX, beside the training: checkpoints "
        "first, its result last",
    )
    group.add_argument(
        "--claims",
        metavar="S3URL",
        help="share the runs through this place with hosts that share no folder (implies --sync)",
    )
    group.add_argument(
        "--sync-patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="at the end, how long to go on while nothing can be sent (default: %(default)s)",
    )
    _add_access(group)


def add_access(parser: argparse.ArgumentParser) -> None:
    """How a bucket is reached, for `sync`, whose URL is a word of its own."""
    _add_access(parser.add_argument_group("how the bucket is reached"))


def sync_target(arguments: argparse.Namespace) -> BucketTarget | None:
    """The place that `--sync` names; None without it. UsageError for words that cannot be."""
    if arguments.claims is not None:
        if arguments.sync not in (None, arguments.claims):
            raise UsageError("--claims and --sync name two places: give one of them")
        arguments.sync = arguments.claims
    if arguments.sync is not None:
        return target_of(arguments.sync, arguments)
    _refuse_access_words(arguments, "--sync")
    return None


def target_of(url: str, arguments: argparse.Namespace) -> BucketTarget:
    """The place that `url` and the flags name. UsageError for words that cannot be."""
    from orchestrator.s3.url import BucketTarget, parse_endpoint, parse_rate, parse_url

    if arguments.sse_kms_key_id and arguments.sse != "aws:kms":
        raise UsageError("--sse-kms-key-id names a key of KMS: give --sse aws:kms with it")
    if arguments.max_concurrency is not None and not (
        1 <= arguments.max_concurrency <= _MOST_REQUESTS
    ):
        raise UsageError(f"--max-concurrency takes 1 to {_MOST_REQUESTS}")
    rate, endpoint = arguments.max_bandwidth, arguments.endpoint_url
    return BucketTarget(
        url=parse_url(url),
        endpoint_url=None if endpoint is None else parse_endpoint(endpoint),
        profile=arguments.aws_profile,
        region=arguments.region,
        encryption=arguments.sse,
        kms_key_id=arguments.sse_kms_key_id,
        max_concurrency=arguments.max_concurrency or BucketTarget.DEFAULT_CONCURRENCY,
        max_bytes_per_s=None if rate is None else parse_rate(rate),
    )


def access_words(arguments: argparse.Namespace) -> list[str]:
    """The flags as they were given, for a command that goes on with the same bucket."""
    given = ((flag, getattr(arguments, name)) for name, flag in _FLAGS.items())
    return [word for flag, value in given if value is not None for word in (flag, str(value))]


def sync_words(arguments: argparse.Namespace) -> list[str]:
    """The flags of `add_sync` as they were given, for a job that trains what was asked for here."""
    if sync_target(arguments) is None:
        return []
    door = "--claims" if arguments.claims else "--sync"
    patience = ["--sync-patience", str(arguments.sync_patience)]
    return [door, arguments.sync, *patience, *access_words(arguments)]


def status_command(output: str, arguments: argparse.Namespace) -> str:
    """The line that shows how the runs are that are trained as `arguments` say."""
    from orchestrator.config.shell import quote

    place = ["--claims", arguments.claims, *access_words(arguments)] if arguments.claims else []
    return quote(["replicate", "status", output, *place])


def sync_plan(arguments: argparse.Namespace) -> None:
    """Have the same plan in the output folder and, where it is given, in the place of `--claims`.

    ConfigChangedError where they have different plans, IncompleteError where both have none.
    """
    if arguments.claims is None:
        return
    from orchestrator.bucket_claims import plan

    target = sync_target(arguments)
    assert target is not None
    plan.sync_plan(target, arguments.output)


def add_claims(parser: argparse.ArgumentParser) -> None:
    """`--claims` and how its bucket is reached, for `status`."""
    group = parser.add_argument_group("runs that are shared through a bucket (docs/s3.md)")
    group.add_argument(
        "--claims", metavar="S3URL", help="what this place tells too: who has which run, results"
    )
    _add_access(group)


def claims_target(arguments: argparse.Namespace) -> BucketTarget | None:
    """The place that `--claims` of `add_claims` names; None without it. UsageError as ever."""
    if arguments.claims is not None:
        return target_of(arguments.claims, arguments)
    _refuse_access_words(arguments, "--claims")
    return None


def _refuse_access_words(arguments: argparse.Namespace, door: str) -> None:
    unused = [flag for name, flag in _FLAGS.items() if getattr(arguments, name) is not None]
    if unused:
        raise UsageError(f"{unused[0]} says how a bucket is reached: name it with {door} S3URL")


def push_command(output: str, url: str, arguments: argparse.Namespace) -> str:
    """The line that sends what is not in the bucket yet, as a person types it."""
    from orchestrator.config.shell import quote

    return quote(["replicate", "sync", "push", output, url, *access_words(arguments)])


def _add_access(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--endpoint-url", metavar="URL", help="another S3 server than Amazon's")
    group.add_argument("--aws-profile", metavar="NAME", help="a profile of ~/.aws (default: AWS's)")
    group.add_argument("--region", help="the bucket's region (default: AWS's)")
    group.add_argument(
        "--sse", choices=("AES256", "aws:kms"), help="encryption that the server is asked for"
    )
    group.add_argument("--sse-kms-key-id", metavar="KEY", help="the key of KMS to encrypt with")
    group.add_argument(
        "--max-concurrency", type=int, metavar="N", help="requests at one time (default: 8)"
    )
    group.add_argument(
        "--max-bandwidth", metavar="RATE", help="such as 50MB/s, for all transfers together"
    )


def with_sync(
    arguments: argparse.Namespace,
    planned: Plan,
    output: Path,
    settings: LocalSettings,
    train: Callable[[LocalSettings], LocalReport],
    report: Callable[[RunEvent], None],
) -> LocalReport:
    """What `train(settings)` reports, with what it completes sent to where `--sync` says.

    Its exit code is 75 instead of 0 where something could not be sent, 1 where the bucket has
    another result. An error of usage (no such bucket, denied, another plan) is raised before
    anything is trained.
    """
    target = sync_target(arguments)
    if target is None:
        return train(settings)
    from orchestrator.sync.backlog import Backlog

    _refuse_wrong_place(target, planned.sweep, report, must_answer=bool(arguments.claims))
    shared = _shared_claims(target, planned.sweep, output, settings) if arguments.claims else None
    backlog = Backlog(output, target, planned.runs, shared)
    if shared:
        shared.on_run_ended = backlog.add
        settings = replace(settings, claims=shared)
    backlog.start()

    def on_completion(runs: Sequence[Run]) -> None:
        for run in runs:
            backlog.add(run)
        _tell_news(backlog, report)

    trained = train(replace(settings, on_completion=on_completion))
    unsent = _close(backlog, arguments.sync_patience, trained)
    if shared:
        shared.close()
    _tell_news(backlog, report)
    return replace(trained, code_of_sync=_say_unsent(unsent, arguments, output))


def _close(backlog: Backlog, patience_s: float, trained: LocalReport) -> SyncOutcome:
    # Whoever asks to stop, a scheduler above all, kills those who take their time.
    if trained.was_stopped:
        patience_s = min(patience_s, _PATIENCE_WHEN_STOPPED_S)
    try:
        return backlog.close(patience_s)
    except KeyboardInterrupt:
        return backlog.close(0.0)


def _refuse_wrong_place(
    target: BucketTarget, sweep: Sweep, report: Callable[[RunEvent], None], *, must_answer: bool
) -> None:
    from orchestrator.local.events import Notice
    from orchestrator.sync.backlog import delay_message
    from orchestrator.sync.plan import check_before_training

    try:
        check_before_training(target, sweep)
    except BucketUnavailableError as error:
        if must_answer:
            raise
        report(Notice(message=delay_message(error)))


def _shared_claims(
    target: BucketTarget, sweep: Sweep, output: Path, settings: LocalSettings
) -> FolderAndBucketClaims:
    from orchestrator.bucket_claims.claims import FolderAndBucketClaims
    from orchestrator.bucket_claims.plan import publish_plan_to

    publish_plan_to(target, output, sweep)
    return FolderAndBucketClaims(output, target, sweep, settings.heartbeat_s)


def _tell_news(backlog: Backlog, report: Callable[[RunEvent], None]) -> None:
    from orchestrator.local.events import Notice

    for message in backlog.pop_messages():
        report(Notice(message=message))


def _say_unsent(unsent: SyncOutcome, arguments: argparse.Namespace, output: Path) -> int:
    for issue in unsent.issues:
        print(f"not sent {issue.name}: {issue.reason}", file=sys.stderr)
    if unsent.unsent_runs or unsent.is_view_outdated:
        what = f"{len(unsent.unsent_runs)} runs" if unsent.unsent_runs else "the merged JSON"
        print(
            f"{what} could not be sent: {unsent.reason}\nthis sends what is missing:\n"
            f"  {push_command(str(output), arguments.sync, arguments)}",
            file=sys.stderr,
        )
        return BucketUnavailableError.exit_code
    return 1 if unsent.has_second_results else 0
