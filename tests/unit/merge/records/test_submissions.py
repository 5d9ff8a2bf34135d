"""Records of submissions: who reads which, and what an unreadable one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from merge.errors import RecordError
from merge.records.submissions import (
    list_submissions,
    new_submission_id,
    read_submission_document,
)
from merge.storage.paths import SubmissionPaths, SweepPaths


def submission(output: Path, text: str | None, name: str = "a") -> SubmissionPaths:
    paths = SweepPaths(output).submission(name)
    paths.root.mkdir(parents=True)
    if text is not None:
        paths.record.write_text(text)
    return paths


def test_each_executor_reads_only_its_own_submissions(tmp_path):
    paths = submission(tmp_path, '{"schema": 1, "kind": "slurm"}')
    assert read_submission_document(paths, "slurm") == {"schema": 1, "kind": "slurm"}
    assert read_submission_document(paths, "servers") is None


@pytest.mark.parametrize("text", [None, '{"schema": 99, "kind": "slurm"}', '{"schema": 1}'])
def test_an_absent_record_and_one_of_another_kind_are_none(tmp_path, text):
    assert read_submission_document(submission(tmp_path, text), "servers") is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"schema": 99, "kind": "servers"}', '{"schema": 99}', '{"schema": 99, "kind": 1}'],
)
def test_a_record_that_may_be_ours_and_cannot_be_read_is_an_error(tmp_path, text):
    with pytest.raises(RecordError):
        read_submission_document(submission(tmp_path, text), "servers")


def test_submissions_are_listed_in_the_order_of_their_ids(tmp_path):
    assert list_submissions(tmp_path) == []
    later, sooner = new_submission_id(100_000.0), new_submission_id(10.0)
    for name in (later, sooner):
        submission(tmp_path, None, name)
    assert [paths.root.name for paths in list_submissions(tmp_path)] == [sooner, later]
