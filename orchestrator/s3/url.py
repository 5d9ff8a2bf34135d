"""The place of a sweep in an object store, and how to connect to it. Holds no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from merge.errors import UsageError

Encryption = Literal["AES256", "aws:kms"]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?([kMG]?)B(?:/s)?")
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """`s3://bucket/prefix`: the place that one output folder has in a bucket."""

    bucket: str
    prefix: str
    """Without a slash at either end; empty for the whole bucket."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """The key of the file `name` (relative to the output folder, with `/`)."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def name(self, key: str) -> str:
        """The file that `key` stands for; the opposite of `key`."""
        return key[len(self.prefix) + 1 :] if self.prefix else key

    def object_url(self, name: str) -> str:
        """`s3://bucket/prefix/name`, for messages."""
        return f"{self}/{name}"

    def arn(self, name: str = "*") -> str:
        """The resource that a policy names for the objects `name`."""
        return f"arn:aws:s3:::{self.bucket}/{self.key(name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketTarget:
    """A place in a bucket and the flags of a person; credentials come from AWS's own chain."""

    DEFAULT_CONCURRENCY: ClassVar[int] = 8

    url: BucketUrl
    endpoint_url: str | None = None
    """As `--endpoint-url` gives it; None leaves the choice to the environment and ~/.aws/config."""
    profile: str | None = None
    region: str | None = None
    encryption: Encryption | None = None
    kms_key_id: str | None = None
    max_concurrency: int = DEFAULT_CONCURRENCY
    """Requests at one time."""
    max_bytes_per_s: float | None = None
    max_attempts: int = 7
    """Attempts at one request before the store counts as unavailable."""

    @property
    def cache_key(self) -> str:
        """What caches of this place are found by: the same bucket name may be at two servers."""
        return f"{self.endpoint_url} {self.url}"

    def to_json(self) -> dict[str, Any]:
        """All but `max_attempts`, which each command chooses for itself."""
        document = {**asdict(self), "url": str(self.url)}
        del document["max_attempts"]
        return document


def target_from_json(document: Mapping[str, Any]) -> BucketTarget:
    """The target that `BucketTarget.to_json` described."""
    # Older versions also sent the attempts at one request, as `patience`.
    known = {key: value for key, value in document.items() if key != "patience"}
    return BucketTarget(**{**known, "url": parse_url(document["url"])})


def parse_url(text: str) -> BucketUrl:
    """The place that `s3://bucket/prefix` names. UsageError for any other text."""
    scheme, separator, rest = text.partition("://")
    if scheme != "s3" or not separator:
        raise UsageError(f"{text!r} is not a place in a bucket: write s3://BUCKET/PREFIX")
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{text!r}: {bucket!r} is not a valid bucket name, which has 3 to 63 of a-z, 0-9, "
            f"'.', '-': correct it"
        )
    prefix = prefix.strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise UsageError(f"{text!r}: the prefix must not have empty, '.' or '..' parts: correct it")
    return BucketUrl(bucket, prefix)


def parse_endpoint(text: str, source: str = "--endpoint-url") -> str:
    """An endpoint's URL as given; `source` says where it was given.

    UsageError where it is not a URL, or holds a password.
    """
    parts = urlsplit(text)
    if parts.username or parts.password:
        # The text is not repeated: it holds the password.
        raise UsageError(
            f"{source} holds a user name or password, which process lists and logs would show: "
            f"remove it, and give credentials by environment variables or a profile"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{source} {text!r} is not a URL such as https://s3.example.org: correct it"
        )
    return text


def parse_rate(text: str) -> float:
    """Bytes per second of `50MB/s` or `500kB` (decimal units). UsageError unless above zero."""
    match = _RATE.fullmatch(text.strip())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"{text!r} is not a rate: write 500kB/s, 50MB/s or 1GB/s")
    return float(match[1]) * _FACTORS[match[2]]
