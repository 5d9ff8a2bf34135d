"""What `replicate run` tells a person to do next."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sweeps import make_sweep, shell

from merge.records.records import Cause
from orchestrator.local.events import LocalReport, RunEnded, RunOutcome
from replicate.cli.next_steps import failed_lines, next_steps

AGAIN, RETRY = "same command again", "replicate retry out"


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ((RunOutcome.DONE, RunOutcome.ALREADY_DONE), ()),
        ((RunOutcome.DONE, RunOutcome.FAILED), (AGAIN,)),
        ((RunOutcome.DONE, RunOutcome.CANCELLED), (RETRY,)),
        ((RunOutcome.INTERRUPTED, RunOutcome.CANCELLED), (AGAIN, RETRY)),
        ((RunOutcome.REFUSED, RunOutcome.DONE), ()),
    ],
)
def test_only_what_helps_the_runs_that_are_not_done_is_told(outcomes, told):
    runs = make_sweep(shell("true"), folds=len(outcomes)).runs
    endings = {
        run.run_id: RunEnded(run=run, outcome=outcome)
        for run, outcome in zip(runs, outcomes, strict=True)
    }
    text = "\n".join(next_steps(LocalReport(endings=endings, was_stopped=False), Path("out"), ""))
    assert tuple(step for step in (AGAIN, RETRY) if step in text) == told


def test_each_failed_run_is_named_with_its_reason_and_its_log():
    runs = make_sweep(shell("true"), folds=25).runs
    endings = {
        run.run_id: RunEnded(
            **{"run": run, "outcome": RunOutcome.FAILED, "cause": Cause.DATA},
            **{"reason": "no images\n\x1b[2J", "log": Path("out/stderr.log")},
        )
        for run in runs
    }
    lines = failed_lines(LocalReport(endings=endings, was_stopped=False), "replicate status out")
    assert lines[0] == (
        f"failed(data)    {runs[0].run_id}: no images \\u001b[2J; log out/stderr.log"
    )
    assert len(lines) == 21
    assert lines[-1].strip() == "and 5 more: replicate status out"
