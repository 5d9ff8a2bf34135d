"""Handing a cancellation on: one scheduler that cannot be asked keeps no other from it."""

from __future__ import annotations

import pytest

from merge.errors import SchedulerError, UsageError
from orchestrator.cancel import cancel_everywhere


def deaf(output, run_ids, /):
    raise SchedulerError("squeue does not answer")


def misled(output, run_ids, /):
    raise UsageError("no such host")


def test_the_lines_of_all_schedulers_come_in_their_order(tmp_path):
    def first(output, run_ids, /):
        return [f"first: {output.name}"]

    def second(output, run_ids, /):
        return [f"second: {name}" for name in run_ids]

    lines = cancel_everywhere(tmp_path, ["a", "b"], [first, second])
    assert lines == [f"first: {tmp_path.name}", "second: a", "second: b"]


def test_a_scheduler_without_an_answer_keeps_no_other_from_cancelling(tmp_path):
    def willing(output, run_ids, /):
        return [f"h1: its worker had {name} and was killed" for name in run_ids]

    with pytest.raises(SchedulerError) as raised:
        cancel_everywhere(tmp_path, ["a"], [deaf, willing, misled])
    assert str(raised.value).splitlines()[1:] == [
        "squeue does not answer",
        "no such host",
        "h1: its worker had a and was killed",
    ]
    assert "are marked as cancelled" in str(raised.value)
