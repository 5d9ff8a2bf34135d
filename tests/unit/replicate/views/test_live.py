"""What a terminal shows of a running sweep."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.grids import make_grid

from merge.records.records import Cause
from orchestrator.local.events import (
    Notice,
    RunEnded,
    RunOutcome,
    RunProgressed,
    RunRetried,
    RunStarted,
)
from orchestrator.runs.progress import Progress
from replicate.views.live import shown, shown_by_default

RUN = make_grid().runs[0]
EVENTS = (
    RunStarted(run=RUN, attempt=2, devices=("0", "1")),
    RunProgressed(
        run=RUN, attempt=2, progress=Progress(event="step", time=1.0, epoch=3, step=7, loss=0.25)
    ),
    RunProgressed(run=RUN, attempt=2, progress=Progress(event="started", time=1.0)),
    RunRetried(
        run=RUN,
        attempt=2,
        cause=Cause.CUDA_OOM,
        reason="2 GiB",
        wait_s=30.0,
        count=1,
        limit=8,
        log=Path("out/1/stderr.log"),
    ),
    Notice(message="the guard process had died"),
    Notice(message="attempt 1 crashed", run=RUN),
    RunEnded(
        **{"run": RUN, "outcome": RunOutcome.FAILED, "cause": Cause.NAN_LOSS, "reason": "nan"},
        **{"seconds": 3.0, "log": Path("out/2/stderr.log")},
    ),
    RunEnded(run=RUN, outcome=RunOutcome.DONE, value=0.5, seconds=12.4),
    Notice(message="a log's last line: \x1b]0;owned\x07\x9b2J\ndone forged \u202e"),
)


def test_a_log_gets_a_line_for_each_thing_that_happens(capsys):
    with shown(4, lambda value: f"miou {100 * value:.1f}") as report:
        for event in EVENTS:
            report(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"started  {RUN.run_id} on 0,1 (attempt 2)",
        f"         {RUN.run_id} epoch 3 step 7 loss 0.2500",
        f"again    {RUN.run_id} after cuda_oom in 30 s (1 of 8): 2 GiB; log out/1/stderr.log",
        "note     the guard process had died",
        f"note     {RUN.run_id}: attempt 1 crashed",
        f"failed(nan_loss) {RUN.run_id} in 3 s: nan; log out/2/stderr.log [1/4]",
        f"done     {RUN.run_id} miou 50.0 in 12 s [2/4]",
        r"note     a log's last line: \u001b]0;owned\u0007\u009b2J done forged \u202e",
    ]


def test_a_notebook_gets_lines_on_stdout_and_a_pipe_gets_none(monkeypatch, capsys):
    class ZMQInteractiveShell:
        pass

    with shown_by_default(4, str, None) as listeners:
        assert listeners == []
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    with shown_by_default(4, str, None) as [report]:
        report(EVENTS[0])
    assert capsys.readouterr() == (f"started  {RUN.run_id} on 0,1 (attempt 2)\n", "")
    with shown_by_default(4, str, wanted=False) as listeners:
        assert listeners == []


@pytest.mark.parametrize("is_coloured", [True, False])
def test_a_terminal_gets_a_live_line_a_run_and_keeps_the_endings(is_coloured):
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **({} if is_coloured else {"NO_COLOR": "1"})}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    code = (
        "from test_live import EVENTS, shown\n"
        "with shown(4, str) as report:\n    [report(event) for event in EVENTS]\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, stderr=follower, check=True)
    os.close(follower)
    text = os.read(leader, 100_000).decode()
    os.close(leader)
    assert f"{RUN.run_id}: epoch 3 step 7 loss 0.2500" in text
    assert r"\u001b]0;owned\u0007\u009b2J done forged \u202e" in text.replace("\r\n", "")
    assert "\x1b]0;" not in text
    assert "\x9b" not in text
    last = text.rindex(f"done     {RUN.run_id}")
    assert "epoch 3" not in text[last:]
    assert ("\x1b[32m" in text) is is_coloured
