"""Records that are JSON, but not of this version: named, whatever their fields hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from merge.errors import RecordError
from merge.records.records import (
    AttemptRecord,
    Cause,
    Claim,
    Outcome,
    Owner,
    Request,
    RequestAction,
    WorkerRecord,
    read_attempt,
    read_claim,
    read_request,
    read_worker,
)
from merge.storage.json_files import write_json

OWNER = Owner(host="h", pid=7, pid_started="1", boot_id="b")
CLAIM = Claim(number=1, token="t", owner=OWNER, heartbeat=1)
ATTEMPT = AttemptRecord(
    number=1,
    token="t",
    owner=OWNER,
    command=("true",),
    device="cpu",
    devices=("cpu0",),
    started=1.5,
    code={},
)
REQUEST = Request(number=1, action=RequestAction.CANCEL, claim=0, by="somebody", host="h", time=1.0)
WORKER = WorkerRecord(name="w", owner=OWNER, started=1.0, heartbeat=2.0)
READERS = {
    Claim: read_claim,
    AttemptRecord: read_attempt,
    Request: read_request,
    WorkerRecord: read_worker,
}


@pytest.mark.parametrize(
    "record",
    [
        CLAIM,
        ATTEMPT,
        replace(ATTEMPT, ended=2, exit_code=0, outcome=Outcome.DONE, cause=Cause.DONE),
        REQUEST,
        WORKER,
    ],
)
def test_what_is_written_is_read_again(tmp_path, record):
    path = tmp_path / "record.json"
    write_json(path, record.to_json())
    assert READERS[type(record)](path) == record


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (CLAIM, {"heartbeat": "noon"}),
        (CLAIM, {"expiry_s": None}),
        (CLAIM, {"number": "1"}),
        (CLAIM, {"released": "no"}),
        (CLAIM, {"owner": {**CLAIM.to_json()["owner"], "pid": "7"}}),
        (ATTEMPT, {"started": "noon"}),
        (ATTEMPT, {"ended": [1]}),
        (ATTEMPT, {"number": True}),
        (ATTEMPT, {"environment": ["linux"]}),
        (ATTEMPT, {"deviations": [1]}),
        (ATTEMPT, {"micro_batch": "8"}),
        (REQUEST, {"claim": None}),
        (REQUEST, {"time": "soon"}),
        (WORKER, {"heartbeat": None}),
    ],
)
def test_a_field_of_another_type_is_named_with_its_file(tmp_path, record, fields):
    path = tmp_path / "record.json"
    write_json(path, record.to_json() | fields)
    with pytest.raises(RecordError, match="not a record of this version") as caught:
        READERS[type(record)](path)
    assert str(path) in str(caught.value)
