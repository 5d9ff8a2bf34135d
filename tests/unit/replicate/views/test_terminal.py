"""Output where a terminal has another encoding, or has closed."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

PRINT = """
import os, sys
from replicate.views.terminal import print_any_name
print_any_name()
print(os.fsdecode(b"/caf\\xe9"), "\\u2014 \\u00fc")
"""


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8:strict", b"/caf\xe9 \xe2\x80\x94 \xc3\xbc\n"),
        ("latin-1:strict", b"/caf\xe9 ? \xfc\n"),
        ("ascii:strict", b"/caf\xe9 ? ?\n"),
    ],
)
def test_names_are_printed_as_they_are_and_foreign_letters_as_question_marks(encoding, printed):
    done = subprocess.run(
        [sys.executable, "-c", PRINT],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert done.stdout == printed


CLOSING = """
import os, signal, sys, time
from replicate.views.live import shown
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with shown(1, str) as show:
    print("ready", flush=True)
    while os.isatty(2):
        time.sleep(0.01)
print("the table", flush=True)
print("a note", file=sys.stderr)
with open(sys.argv[1], "w") as file:
    file.write("done")
"""


def test_a_terminal_that_closes_while_a_sweep_is_shown_ends_no_command(tmp_path):
    """As after `trap '' HUP`, or where the signal is handled."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", CLOSING, str(tmp_path / "end")])
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (tmp_path / "end").read_text() == "done"
