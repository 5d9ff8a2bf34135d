"""Making a boto3 client, and the name of the server that it asks."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from merge.errors import UsageError
from orchestrator.s3.answers import refuse_broken_answer
from orchestrator.s3.url import BucketTarget, parse_endpoint
from orchestrator.s3.whole_headers import refuse_cut_headers

if TYPE_CHECKING:
    from botocore.config import Config

Client = Any
"""A boto3 S3 client; botocore creates its class at run time, so there is no static type."""

_CHATTY_LOGGERS = ("boto3", "botocore", "s3transfer", "urllib3")
_AMAZON_HOST = re.compile(r"s3([.-][a-z0-9-]+)*\.amazonaws\.com(\.cn)?")
_CONFIGURED_ENDPOINT = "the endpoint of AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or ~/.aws/config"


def make_client(target: BucketTarget) -> Client:
    """A client for `target`, safe for many threads; credentials come from AWS's own chain.

    UsageError where an endpoint from the environment or ~/.aws/config cannot be used.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    for name in _CHATTY_LOGGERS:
        # At debug level they write request headers, session tokens among them, to the log.
        logging.getLogger(name).setLevel(logging.WARNING)
    # boto3's default session is shared by all threads and not safe for them.
    session = boto3.session.Session(profile_name=target.profile, region_name=target.region)
    try:
        client = session.client("s3", endpoint_url=target.endpoint_url, config=_config(target))
    except BotoCoreError:
        raise
    except ValueError as error:
        # botocore raises a bare ValueError for an endpoint without a scheme. Its text is left out:
        # the endpoint may hold a password. `--endpoint-url` was checked before.
        raise UsageError(
            f"{_CONFIGURED_ENDPOINT} is not a URL such as https://s3.example.org: correct it, or "
            f"set --endpoint-url"
        ) from error
    parse_endpoint(client.meta.endpoint_url, _CONFIGURED_ENDPOINT)
    client.meta.events.register("before-parse.s3.*", refuse_broken_answer)
    refuse_cut_headers(client)
    return client


def _config(target: BucketTarget) -> Config:
    from botocore.config import Config

    return Config(
        # botocore makes up to 5 attempts by default. Inside of our own back-off that would
        # multiply the attempts and the waiting.
        retries={"total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=60,
        # More than the requests at one time: urllib3 drops a connection, with a warning, whenever
        # its pool is full.
        max_pool_connections=4 * target.max_concurrency + 2,
        # boto3 >= 1.36 adds CRC32 trailers to every write by default, which several S3-compatible
        # stores reject. Our own SHA-256 goes with every write instead.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def server_name(client: Client) -> str:
    """How messages name the server that `client` asks: `Amazon S3`, or its endpoint.

    The endpoint may come from the environment or ~/.aws/config, so only the client knows it.
    """
    endpoint = str(client.meta.endpoint_url)
    is_amazon = _AMAZON_HOST.fullmatch(urlsplit(endpoint).hostname or "")
    return "Amazon S3" if is_amazon else endpoint
