"""When the owner of a claim in a bucket counts as dead: by the store's times, not an answer's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.memory_bucket import MemoryBucket

from orchestrator.bucket_claims.remote_claims import RemoteClaims
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Busy, Taken
from orchestrator.s3.objects import ObjectHead

RUN = "cell/fold0"
OTHER = replace(this_owner(), host="elsewhere")


class TimedBucket(MemoryBucket):
    """A store whose answers carry a time of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.answers_ahead_s = 0.0
        self.written: dict[str, datetime] = {}

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str | None:
        etag = super().put(name, data, only_if=only_if)
        if etag:
            self.written[name] = self.now
        return etag

    def head(self, name: str) -> ObjectHead | None:
        head = super().head(name)
        return head and self._timed(name, head)

    def get(self, name: str) -> tuple[bytes, ObjectHead] | None:
        answer = super().get(name)
        return answer and (answer[0], self._timed(name, answer[1]))

    def _timed(self, name: str, head: ObjectHead) -> ObjectHead:
        age = self.now - self.written[name]
        return replace(
            head,
            modified=self.written[name],
            age_s=max(0.0, age.total_seconds() + self.answers_ahead_s),
        )


def take(bucket: TimedBucket, owner=OTHER):
    return RemoteClaims(bucket).take(RUN, owner, now=0.0, expiry_s=60.0)


@pytest.mark.parametrize("answers_ahead_s", [-3600.0, 0.0, 300.0, 3600.0])
def test_the_time_of_an_answer_takes_no_run_away(answers_ahead_s):
    bucket = TimedBucket()
    assert isinstance(take(bucket, this_owner()), Taken)
    bucket.now += timedelta(seconds=10)
    bucket.answers_ahead_s = answers_ahead_s
    assert isinstance(take(bucket), Busy)


@pytest.mark.parametrize("answers_ahead_s", [0.0, 300.0])
def test_a_claim_that_is_old_for_the_store_is_taken_over_at_once(answers_ahead_s):
    bucket = TimedBucket()
    assert isinstance(take(bucket, this_owner()), Taken)
    bucket.now += timedelta(seconds=61)
    bucket.answers_ahead_s = answers_ahead_s
    assert isinstance(take(bucket), Taken)
