"""Where a sweep lies in an object store, and how it is reached. Holds no secret."""

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

    def arn(self, name: str = "*") -> str:
        """What a permission is granted on."""
        return f"arn:aws:s3:::{self.bucket}/{self.key(name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketTarget:
    """A place in a bucket with the choices of a person; credentials come from AWS's own chain."""

    DEFAULT_CONCURRENCY: ClassVar[int] = 8

    url: BucketUrl
    endpoint_url: str | None = None
    """Another server than Amazon's."""
    profile: str | None = None
    region: str | None = None
    encryption: Encryption | None = None
    kms_key_id: str | None = None
    max_concurrency: int = DEFAULT_CONCURRENCY
    """Requests under way at one time."""
    max_bytes_per_s: float | None = None
    patience: int = 7
    """How often a request is tried before the store counts as unavailable."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "url": str(self.url)}


def target_from_json(document: Mapping[str, Any]) -> BucketTarget:
    """The target that `BucketTarget.to_json` described."""
    return BucketTarget(**{**document, "url": parse_url(document["url"])})


def parse_url(text: str) -> BucketUrl:
    """The place that `s3://bucket/prefix` names. UsageError says what is wrong with it."""
    scheme, separator, rest = text.partition("://")
    if scheme != "s3" or not separator:
        raise UsageError(f"{text!r} is no place in a bucket: write s3://BUCKET/PREFIX")
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{text!r}: {bucket!r} cannot be a bucket's name (3 to 63 of a-z, 0-9, '.', '-')"
        )
    prefix = prefix.strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise UsageError(f"{text!r}: the prefix may not have empty, '.' or '..' parts")
    return BucketUrl(bucket, prefix)


def parse_endpoint(text: str) -> str:
    """An endpoint's URL as given. UsageError where it is none, or has a password in it."""
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise UsageError(
            "--endpoint-url holds a user name or password, which every process list would show: "
            "give credentials by environment or profile"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--endpoint-url {text!r} is no address such as https://s3.example.org")
    return text


def parse_rate(text: str) -> float:
    """Bytes a second of `50MB/s`, `500kB`. UsageError where it is no rate above zero."""
    match = _RATE.fullmatch(text.strip())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"{text!r} is no rate: write 500kB/s, 50MB/s or 1GB/s")
    return float(match[1]) * _FACTORS[match[2]]
