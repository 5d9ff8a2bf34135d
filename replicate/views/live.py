"""What a running sweep shows on the terminal: a live line per run, or plain lines in a log.

Everything goes to stderr; stdout is left to the table.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from merge.foreign_text import one_line, raw_stream
from orchestrator.local.events import (
    Listener,
    Notice,
    RunEnded,
    RunEvent,
    RunOutcome,
    RunProgressed,
    RunRetried,
    RunsCompleted,
    RunStarted,
)
from replicate.views.progress import progress_text
from replicate.views.terminal import leave_closed_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import Progress, TaskID

# A trainer may report every step; a log of a week must stay readable.
_PLAIN_INTERVAL_S = 10.0
_COLOURS = {
    RunOutcome.DONE: "green",
    RunOutcome.ALREADY_DONE: "dim",
    RunOutcome.CANCELLED: "yellow",
    RunOutcome.INTERRUPTED: "yellow",
}


@contextmanager
def shown_by_default(
    num_runs: int, show_value: Callable[[float], str], wanted: bool | None
) -> Iterator[list[Listener]]:
    """What `shown` yields where someone looks: at a terminal or a notebook, or where `wanted`."""
    if (wanted is None and not (sys.stderr.isatty() or _is_notebook())) or wanted is False:
        yield []
    elif _is_notebook():
        # A notebook marks stderr as an error.
        yield [_PlainLines(num_runs, show_value, sys.stdout)]
    else:
        with shown(num_runs, show_value) as listener:
            yield [listener]


def _is_notebook() -> bool:
    # Not imported: without it loaded there is no notebook.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def shown(num_runs: int, show_value: Callable[[float], str]) -> Iterator[Listener]:
    """A listener that shows a sweep of `num_runs` runs: live on a terminal, else as plain lines.

    Where the terminal has closed meanwhile, all later output of this process goes nowhere.
    """
    try:
        # A log file would fill with control sequences.
        if sys.stderr.isatty():
            yield from _shown_live(num_runs, show_value)
        else:
            yield _PlainLines(num_runs, show_value)
    finally:
        leave_closed_terminal()


def _shown_live(num_runs: int, show_value: Callable[[float], str]) -> Iterator[Listener]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=raw_stream(sys.stderr), highlight=False)
    # Without markup: a run's id may hold brackets.
    runs = Progress(TextColumn("{task.description}", markup=False), console=console)
    total = Progress(MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), console=console)
    # The two are drawn by one Live: each `Progress` alone would fight for the cursor.
    live = Live(Group(runs, total), console=console, refresh_per_second=4, transient=True)
    live.start()
    try:
        yield _LiveLines(_PlainLines(num_runs, show_value), runs, total, live)
    finally:
        # EIO of a terminal that has closed: the training behind it has its own outcome.
        with suppress(OSError):
            live.stop()


def retry_text(retried: RunRetried) -> str:
    """` in 30 s (1 of 2): why the attempt failed`."""
    when = f" in {retried.wait_s:.0f} s" if retried.wait_s else ""
    return f"{when} ({retried.count} of {retried.limit}): {retried.reason}; log {retried.log}"


class _PlainLines:
    """A line for each event; the progress of a run at most every ten seconds."""

    name = "the progress on stderr"

    def __init__(
        self, num_runs: int, show_value: Callable[[float], str], stream: TextIO | None = None
    ) -> None:
        self.num_runs = num_runs
        self.num_ended = 0
        self._show_value = show_value
        self._stream = stream
        self._shown_at: dict[str, float] = {}

    def __call__(self, event: RunEvent) -> None:
        text = self.text(event)
        if text:
            print(text, file=self._stream or sys.stderr, flush=True)

    def text(self, event: RunEvent) -> str:
        # A reason is often the last line of a trainer's log.
        return one_line(self._text(event))

    def _text(self, event: RunEvent) -> str:
        match event:
            case RunStarted(run=run, attempt=attempt, devices=devices):
                again = f" (attempt {attempt})" if attempt > 1 else ""
                return f"started  {run.run_id} on {','.join(devices)}{again}"
            case RunProgressed():
                return self._progress(event)
            case RunEnded():
                self.num_ended += 1
                return self._ending(event)
            case RunRetried(run=run, cause=cause):
                return f"again    {run.run_id} after {cause}{retry_text(event)}"
            case Notice(message=message, run=run):
                return f"note     {run.run_id}: {message}" if run else f"note     {message}"
            case RunsCompleted():
                return ""

    def _progress(self, event: RunProgressed) -> str:
        now, run_id = time.monotonic(), event.run.run_id
        text = progress_text(event.progress)
        if not text or now - self._shown_at.get(run_id, 0.0) < _PLAIN_INTERVAL_S:
            return ""
        self._shown_at[run_id] = now
        return f"         {run_id} {text}"

    def _ending(self, ended: RunEnded) -> str:
        count = f"[{self.num_ended}/{self.num_runs}]"
        # Without an attempt there is no cause: a refused run shows only its reason.
        is_bad = (
            ended.outcome in (RunOutcome.FAILED, RunOutcome.STORAGE) and ended.cause is not None
        )
        outcome = f"{ended.outcome}({ended.cause})" if is_bad else ended.outcome.value
        parts = [f"{outcome:<8}", ended.run.run_id]
        if ended.value is not None:
            parts.append(self._show_value(ended.value))
        if ended.seconds is not None:
            parts.append(f"in {ended.seconds:.0f} s")
        if ended.reason:
            parts[-1] += f": {ended.reason}"
        if is_bad and ended.log:
            parts[-1] += f"; log {ended.log}"
        return " ".join([*parts, count])


class _LiveLines:
    """Outcomes scroll up as lines; below them stay a line for each live run, and a bar for all."""

    name = "the progress on stderr"

    def __init__(self, plain: _PlainLines, runs: Progress, total: Progress, live: Live) -> None:
        self._plain = plain
        self._runs = runs
        self._total = total
        self._all = total.add_task("", total=plain.num_runs)
        self._live = live
        self._lines: dict[str, TaskID] = {}

    def __call__(self, event: RunEvent) -> None:
        style = ""
        match event:
            case RunStarted(run=run, devices=devices):
                self._line(run.run_id, f"{run.run_id} on {','.join(devices)}: starting")
            case RunProgressed(run=run, progress=progress):
                self._line(run.run_id, f"{run.run_id}: {progress_text(progress)}")
            case RunEnded(run=run, outcome=outcome):
                self._remove_line(run.run_id)
                style = _COLOURS.get(outcome, "red")
            case RunRetried(run=run, cause=cause):
                self._line(run.run_id, f"{run.run_id}: waits after {cause}")
                style = "yellow"
            case Notice():
                style = "yellow"
        text = self._plain.text(event) if style else ""
        # After `text`, which counts the outcome.
        self._total.update(self._all, completed=self._plain.num_ended)
        if style:
            # Printing draws the live part again: no refresh of its own.
            self._scroll(text, style)
        else:
            self._live.refresh()

    def _line(self, run_id: str, text: str) -> None:
        if run_id in self._lines:
            self._runs.update(self._lines[run_id], description=text)
        else:
            self._lines[run_id] = self._runs.add_task(text, total=None)

    def _remove_line(self, run_id: str) -> None:
        if run_id in self._lines:
            self._runs.remove_task(self._lines.pop(run_id))

    def _scroll(self, text: str, style: str) -> None:
        # A `Text`, because console.print would read `[run]` in a plain string as markup.
        from rich.text import Text

        console: Console = self._live.console
        console.print(Text(text, style=style))
