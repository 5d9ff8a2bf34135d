"""Which server messages name, and which endpoints are refused wherever they come from."""

from __future__ import annotations

import pytest

from merge.errors import BucketUnavailableError, UsageError
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.conditional_writes import require_exclusive_claims
from orchestrator.s3.url import BucketTarget, parse_url

AWAY = "http://127.0.0.1:1"
"""Nothing listens on port 1."""


@pytest.fixture(autouse=True)
def aws(monkeypatch, tmp_path):
    """Credentials and no configuration of the person who runs the tests."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def target(endpoint_url: str | None = None, region: str = "eu-west-1") -> BucketTarget:
    url = parse_url("s3://papers/abcb")
    return BucketTarget(url=url, endpoint_url=endpoint_url, region=region, max_attempts=1)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_an_error_names_the_endpoint_of_the_environment(monkeypatch, variable):
    monkeypatch.setenv(variable, AWAY)
    with pytest.raises(
        BucketUnavailableError, match=f"no complete answer from {AWAY} for s3://papers"
    ):
        next(Bucket(target()).list())


def test_an_error_names_the_endpoint_of_a_profile(tmp_path):
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = {AWAY}\n")
    with pytest.raises(
        BucketUnavailableError, match=f"no complete answer from {AWAY} for s3://papers"
    ):
        Bucket(target()).get("sweep.json")


def test_the_flag_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
    assert Bucket(target(AWAY)).server == AWAY


def test_a_refusal_of_claims_names_the_endpoint_of_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", AWAY)
    bucket = Bucket(target())
    bucket.has_conditional_writes = False
    with pytest.raises(UsageError, match=f"{AWAY} ignores conditional writes"):
        require_exclusive_claims(bucket)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "cn-north-1"])
def test_without_an_endpoint_the_server_is_amazon_s3(region):
    assert Bucket(target(region=region)).server == "Amazon S3"


def test_a_private_endpoint_of_amazon_is_named():
    endpoint = "https://bucket.vpce-1a2b3c4d-5e6f.s3.eu-west-1.vpce.amazonaws.com"
    assert Bucket(target(endpoint)).server == endpoint


@pytest.mark.parametrize("endpoint", ["http://user:hush@127.0.0.1:1", "user:hush@localhost:9000"])
def test_an_unusable_endpoint_of_the_environment_is_refused_without_repeating_it(
    monkeypatch, endpoint
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL_S3") as refused:
        Bucket(target())
    assert "hush" not in str(refused.value)
