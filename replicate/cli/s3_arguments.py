"""The flags that name a place in a bucket, for `sync` and for the commands that take `--sync`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from merge.errors import UsageError
from orchestrator.sync.options import SYNC_PATIENCE_S

if TYPE_CHECKING:
    from orchestrator.s3.url import BucketTarget

_FLAGS = {
    "endpoint_url": "--endpoint-url",
    "aws_profile": "--aws-profile",
    "region": "--region",
    "sse": "--sse",
    "sse_kms_key_id": "--sse-kms-key-id",
    "max_concurrency": "--max-concurrency",
    "max_bandwidth": "--max-bandwidth",
}


def add_sync(parser: argparse.ArgumentParser) -> None:
    """`--sync` and how to access its bucket, for commands that train."""
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
        default=SYNC_PATIENCE_S,
        metavar="SECONDS",
        help="at the end, how long to keep trying while nothing can be sent (default: %(default)s)",
    )
    _add_access(group)


def add_access(parser: argparse.ArgumentParser) -> None:
    """How to access a bucket, for `sync`, whose URL is a positional argument."""
    _add_access(parser.add_argument_group("access to the bucket"))


def sync_target(arguments: argparse.Namespace) -> BucketTarget | None:
    """The place that `--sync` or `--claims` names; None without. UsageError for invalid values."""
    if arguments.claims is not None:
        # Claims imply sync to the same place, since other hosts fetch checkpoints from there.
        if arguments.sync not in (None, arguments.claims):
            raise UsageError("--claims and --sync name two places: give one of them")
        arguments.sync = arguments.claims
    if arguments.sync is not None:
        return target_of(arguments.sync, arguments)
    _refuse_access_words(arguments, "--sync")
    return None


def target_of(url: str, arguments: argparse.Namespace) -> BucketTarget:
    """The place that `url` and the flags name. UsageError for invalid values."""
    from replicate import api

    return api.bucket(
        url,
        endpoint_url=arguments.endpoint_url,
        profile=arguments.aws_profile,
        region=arguments.region,
        encryption=arguments.sse,
        kms_key_id=arguments.sse_kms_key_id,
        max_concurrency=arguments.max_concurrency,
        max_bandwidth=arguments.max_bandwidth,
    )


def access_words(arguments: argparse.Namespace) -> list[str]:
    """The flags as they were given, for a command that uses the same bucket."""
    given = ((flag, getattr(arguments, name)) for name, flag in _FLAGS.items())
    return [word for flag, value in given if value is not None for word in (flag, str(value))]


def sync_words(arguments: argparse.Namespace) -> list[str]:
    """The flags of `add_sync` as they were given, for a job that trains the same plan."""
    if sync_target(arguments) is None:
        return []
    flag = "--claims" if arguments.claims else "--sync"
    patience = ["--sync-patience", str(arguments.sync_patience)]
    return [flag, arguments.sync, *patience, *access_words(arguments)]


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
    """`--claims` and how to access its bucket, for `status`."""
    group = parser.add_argument_group("runs that are shared through a bucket (docs/s3.md)")
    group.add_argument(
        "--claims", metavar="S3URL", help="also read this place: who has which run, and results"
    )
    _add_access(group)


def claims_target(arguments: argparse.Namespace) -> BucketTarget | None:
    """The place that `--claims` of `add_claims` names; None without. UsageError as `target_of`."""
    if arguments.claims is not None:
        return target_of(arguments.claims, arguments)
    _refuse_access_words(arguments, "--claims")
    return None


def _refuse_access_words(arguments: argparse.Namespace, flag: str) -> None:
    unused = [word for name, word in _FLAGS.items() if getattr(arguments, name) is not None]
    # Refused, since the person believes that something is sent.
    if unused:
        raise UsageError(f"{unused[0]} is for a bucket: name the bucket with {flag} S3URL")


def _add_access(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--endpoint-url", metavar="URL", help="an S3 server other than Amazon's")
    group.add_argument("--aws-profile", metavar="NAME", help="a profile of ~/.aws (default: AWS's)")
    group.add_argument("--region", help="the bucket's region (default: AWS's)")
    group.add_argument(
        "--sse", choices=("AES256", "aws:kms"), help="server-side encryption to request"
    )
    group.add_argument("--sse-kms-key-id", metavar="KEY", help="the KMS key to encrypt with")
    group.add_argument(
        "--max-concurrency", type=int, metavar="N", help="parallel requests (default: 8)"
    )
    group.add_argument(
        "--max-bandwidth", metavar="RATE", help="limit of all transfers together, such as 50MB/s"
    )
