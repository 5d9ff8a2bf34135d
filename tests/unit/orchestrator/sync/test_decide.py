"""Which of two differing files is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sync.decide import Decision, decide

HASHES = st.sampled_from(["a", "b", "c"])
MAYBE = st.one_of(st.none(), HASHES)


@given(HASHES, MAYBE, MAYBE, st.booleans())
def test_equal_files_are_never_transferred(
    ours: str, theirs: str | None, agreed: str | None, owner: bool
):
    assert (decide(ours, theirs, agreed, is_owner=owner) is Decision.EQUAL) == (ours == theirs)


@given(HASHES, MAYBE, MAYBE)
def test_without_the_result_only_what_the_other_side_left_unchanged_is_replaced(
    ours: str, theirs: str | None, agreed: str | None
):
    moved = decide(ours, theirs, agreed) is Decision.OVERWRITE
    assert moved == (theirs != ours and theirs is not None and theirs == agreed)


@given(HASHES, MAYBE, MAYBE)
def test_the_side_with_the_result_replaces_every_file_that_differs(
    ours: str, theirs: str | None, agreed: str | None
):
    decision = decide(ours, theirs, agreed, is_owner=True)
    assert decision is (Decision.EQUAL if theirs == ours else Decision.OVERWRITE)


@pytest.mark.parametrize(
    ("agreed", "decision"),
    [
        ("ours", Decision.DESTINATION_IS_NEWER),
        ("older", Decision.CONFLICT),
        (None, Decision.CONFLICT),
    ],
)
def test_a_file_that_is_kept_has_a_reason(agreed: str | None, decision: Decision):
    assert decide("ours", "theirs", agreed) is decision
