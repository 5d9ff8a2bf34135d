"""Errors of an object store and of botocore as plain messages with the fix.

Only codes and short messages are passed on: a server's full answer may repeat the signed request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from merge.errors import BucketError, BucketUnavailableError, PapergridError
from orchestrator.s3.answers import BrokenAnswerError
from orchestrator.s3.url import BucketTarget

_TRANSIENT = {
    "SlowDown",
    "ServiceUnavailable",
    "InternalError",
    "InternalFailure",
    "RequestTimeout",
    "RequestTimeoutException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "OperationAborted",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
}
"""Codes that a retry may cure; the last four mean that a request body was damaged in transit."""

_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "TokenRefreshRequired",
}
_EXPIRED_EXCEPTIONS = {
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "LoginTokenLoadError",
}
_ABSENT_EXCEPTIONS = {"NoCredentialsError", "PartialCredentialsError", "NoAuthTokenError"}
_WRONG_KEYS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "InvalidClientTokenId",
}
# "403" and "301" are answers to HEAD: they have no body, so botocore uses the status as the code.
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"}
_WRONG_REGION = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "301",
    "IllegalLocationConstraintException",
}
_SKEWED = {"RequestTimeTooSkewed", "RequestInTheFuture"}
_FIRST_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429
_LONGEST_MESSAGE = 240
_ENDPOINT = "--endpoint-url (or AWS_ENDPOINT_URL_S3)"

PERMISSIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
}
"""Operation -> the action that a policy must allow for it."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that failed: which operation, on which object of which place and server."""

    target: BucketTarget
    operation: str
    server: str
    """As `client.server_name` gives it."""
    name: str = ""

    @property
    def place(self) -> str:
        """The object, or the place in a bucket, that was asked for."""
        url = self.target.url
        return url.object_url(self.name) if self.name else str(url)

    @property
    def permission(self) -> str:
        """`s3:PutObject on arn:aws:s3:::bucket/prefix/*`."""
        action = PERMISSIONS.get(self.operation, f"s3:{self.operation}")
        url = self.target.url
        # Listing is granted on the bucket, everything else on its objects.
        on = f"arn:aws:s3:::{url.bucket}" if action == "s3:ListBucket" else url.arn()
        return f"{action} on {on}"


def explain(error: Exception, request: Request) -> PapergridError:
    """`error` of botocore as one of `merge.errors`: what was refused, why, and what to do.

    BucketUnavailableError where a later attempt may succeed, else a UsageError.
    """
    if isinstance(error, BrokenAnswerError):
        return _broken(error, request)
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return _from_answer(response, request)
    return _from_client(error, request)


def error_code(error: Exception) -> str:
    """The server's error code (`NoSuchKey`); empty where the server did not answer."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str(response.get("Error", {}).get("Code", ""))


def _from_client(error: Exception, request: Request) -> PapergridError:
    """An error on this side: no credentials, no connection, an unreadable answer."""
    # By name: several of these classes exist only in newer versions of botocore.
    kind = type(error).__name__
    if kind in _ABSENT_EXCEPTIONS:
        return BucketError(
            f"no complete credentials for {request.place}: set AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY, or name a profile with --aws-profile"
        )
    if kind in _EXPIRED_EXCEPTIONS:
        return _expired(request)
    if kind == "ProfileNotFound":
        return BucketError(
            f"there is no AWS profile {request.target.profile!r}: correct --aws-profile or "
            f"~/.aws/config"
        )
    if kind == "SSLError":
        return BucketError(
            f"the TLS certificate of {request.server} is not trusted: set AWS_CA_BUNDLE to a file "
            f"with its certificate authority, or correct {_ENDPOINT}"
        )
    if kind in ("ParamValidationError", "InvalidRegionError", "InvalidEndpointConfigurationError"):
        return BucketError(
            f"{request.place}: {_short(str(error))}; correct the URL, {_ENDPOINT} or --region"
        )
    return BucketUnavailableError(
        f"no complete answer from {request.server} for {request.place} ({kind}): check the network "
        f"and {_ENDPOINT}, then run the same command again"
    )


def _broken(error: BrokenAnswerError, request: Request) -> PapergridError:
    return BucketUnavailableError(
        f"what answers {request.operation} for {request.place} at {request.server} is not a whole "
        f"answer of an object store: {error}. A lost connection, a proxy or the login page of a "
        f"network does this: check the network and {_ENDPOINT}, then run the same command again"
    )


def _from_answer(response: Mapping[str, Any], request: Request) -> PapergridError:
    """An error that the server answered."""
    # Proxies answer 502 and 504 with a page of HTML: then botocore's code is the status.
    code = str(response["Error"].get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _TRANSIENT or status >= _FIRST_SERVER_ERROR or status == _TOO_MANY_REQUESTS:
        return BucketUnavailableError(
            f"{request.server} answers {code} ({status}) for {request.place}: the server is busy, "
            f"or the request was damaged in transit; run the same command again later, with a "
            f"smaller --max-concurrency if this repeats"
        )
    for codes, answer in _ANSWERS:
        if code in codes:
            return answer(response, request)
    message = _short(str(response["Error"].get("Message", "")))
    return BucketError(
        f"{request.server} refuses {request.operation} for {request.place}: {code} {message}; "
        f"docs/s3.md lists what papergrid needs of a bucket"
    )


def _no_bucket(response: Mapping[str, Any], request: Request) -> PapergridError:  # noqa: ARG001
    return BucketError(
        f"there is no bucket {request.target.url.bucket!r} at {request.server}: create it, or "
        f"correct the URL, {_ENDPOINT} or --region"
    )


def _denied(response: Mapping[str, Any], request: Request) -> PapergridError:
    message = str(response["Error"].get("Message", ""))
    # A bucket with SSE-KMS also denies requests whose key is not granted, with the same code.
    key = " and, for its key, kms:GenerateDataKey and kms:Decrypt" if "kms:" in message else ""
    return BucketError(
        f"{request.server} denies {request.operation} for {request.place}: these credentials need "
        f"{request.permission}{key} (docs/s3.md has the whole policy)"
    )


def _wrong_keys(response: Mapping[str, Any], request: Request) -> PapergridError:
    return BucketError(
        f"{request.server} does not accept these credentials ({response['Error']['Code']}): check "
        f"the key and its secret in the environment or in the profile, and {_ENDPOINT}"
    )


def _wrong_region(response: Mapping[str, Any], request: Request) -> PapergridError:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = response["Error"].get("Region") or headers.get("x-amz-bucket-region")
    fix = f"set --region {region}" if region else "set --region to the bucket's region"
    return BucketError(f"bucket {request.target.url.bucket!r} is in another region: {fix}")


def _skewed(response: Mapping[str, Any], request: Request) -> PapergridError:
    return BucketUnavailableError(
        f"this machine's clock differs from that of {request.server}{_clock_difference(response)}, "
        f"more than signatures allow (15 minutes): set the clock (chronyd, timedatectl set-ntp "
        f"true), then run the same command again",
        is_transient=False,
    )


def _expired(request: Request) -> PapergridError:
    profile = f" --profile {request.target.profile}" if request.target.profile else ""
    return BucketUnavailableError(
        f"the credentials for {request.place} have expired: renew them (such as "
        f"`aws sso login{profile}`, or a new session token), then run the same command again",
        is_transient=False,
    )


_Answer = Callable[[Mapping[str, Any], Request], PapergridError]

_ANSWERS: tuple[tuple[set[str], _Answer], ...] = (
    ({"NoSuchBucket"}, _no_bucket),
    (_DENIED, _denied),
    (_WRONG_KEYS, _wrong_keys),
    (_WRONG_REGION, _wrong_region),
    (_SKEWED, _skewed),
    (_EXPIRED, lambda _, request: _expired(request)),
)


def _clock_difference(response: Mapping[str, Any]) -> str:
    """` by 1834 s`; empty where the answer does not hold the server's time."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        time = response["Error"].get("ServerTime")
        server = datetime.fromisoformat(time) if time else parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError):
        return ""
    return f" by {abs((datetime.now(UTC) - server).total_seconds()):.0f} s"


def _short(message: str) -> str:
    return " ".join(message.split())[:_LONGEST_MESSAGE]
