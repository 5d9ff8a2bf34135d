"""What `replicate run` tells a person to do next."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sweeps import make_sweep, shell

from orchestrator.local.events import Fate, LocalReport, RunEnded
from replicate.cli.verbs.run import next_steps

AGAIN, RETRY = "same command again", "replicate retry out"


@pytest.mark.parametrize(
    ("fates", "told"),
    [
        ((Fate.DONE, Fate.ALREADY_DONE), ()),
        ((Fate.DONE, Fate.FAILED), (AGAIN,)),
        ((Fate.DONE, Fate.CANCELLED), (RETRY,)),
        ((Fate.INTERRUPTED, Fate.CANCELLED), (AGAIN, RETRY)),
        ((Fate.REFUSED, Fate.DONE), ()),
    ],
)
def test_only_what_helps_the_runs_that_are_not_done_is_told(fates, told):
    runs = make_sweep(shell("true"), folds=len(fates)).runs
    endings = {
        run.run_id: RunEnded(run=run, fate=fate) for run, fate in zip(runs, fates, strict=True)
    }
    text = "\n".join(next_steps(LocalReport(endings=endings, was_stopped=False), Path("out")))
    assert tuple(step for step in (AGAIN, RETRY) if step in text) == told
