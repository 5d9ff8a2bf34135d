"""The progress of a transfer, in a log and on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from replicate.views import transfers as module
from replicate.views.transfers import transfers


def test_a_log_gets_a_line_every_few_seconds_and_the_total_is_known(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with transfers("sent") as progress:
        progress.moved("a/result.json", 1_000_000)
        assert capsys.readouterr().err == ""
        now[0] += 6
        progress.moved("b/last.pt", 500_000)
    assert capsys.readouterr().err == "sent 2 files, 1.4 MiB, last b/last.pt\n"
    assert progress.text() == "sent 2 files, 1.4 MiB"


def test_a_terminal_gets_one_live_line_that_is_gone_in_the_end():
    leader, follower = pty.openpty()
    code = (
        "from replicate.views.transfers import transfers\n"
        "with transfers('fetched') as progress:\n"
        "    progress.moved('a[b]/result.json', 2_000_000)\n"
        "    progress._progress.refresh()\n"
    )
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, stderr=follower, check=True)
    os.close(follower)
    text = os.read(leader, 100_000).decode()
    os.close(leader)
    assert "fetched 1 files, 1.9 MiB, last a[b]/result.json" in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[2K" in text.rpartition("result.json")[2]
