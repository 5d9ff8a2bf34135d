"""What a running sweep shows on the terminal: a live line per run, or plain lines in a log.

Everything goes to stderr; stdout is left to the table.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from orchestrator.local.events import (
    Notice,
    RunEnded,
    RunEvent,
    RunOutcome,
    RunProgressed,
    RunRetried,
    RunStarted,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

_PLAIN_INTERVAL_S = 10.0
_COLOURS = {
    RunOutcome.DONE: "green",
    RunOutcome.ALREADY_DONE: "dim",
    RunOutcome.CANCELLED: "yellow",
    RunOutcome.INTERRUPTED: "yellow",
}


@contextmanager
def shown(
    num_runs: int, show_value: Callable[[float], str]
) -> Iterator[Callable[[RunEvent], None]]:
    """The reporter of a sweep of `num_runs` runs: live where stderr is a terminal, else plain."""
    if not sys.stderr.isatty():
        yield _Plain(num_runs, show_value).report
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield _Lively(num_runs, show_value, live, console).report


def progress_text(progress: HowFar) -> str:
    """`epoch 3 step 40 loss 0.4120`, as far as it is known."""
    parts = []
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch}")
    if progress.step is not None:
        parts.append(f"step {progress.step}")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    return " ".join(parts)


def retry_text(retried: RunRetried) -> str:
    """` in 30 s (1 of 2): what the attempt said`."""
    when = f" in {retried.wait_s:.0f} s" if retried.wait_s else ""
    return f"{when} ({retried.count} of {retried.limit}): {retried.reason}"


class HowFar(Protocol):
    """What is known of a trainer's progress."""

    @property
    def epoch(self) -> int | None: ...
    @property
    def step(self) -> int | None: ...
    @property
    def loss(self) -> float | None: ...


class _Plain:
    """A line for each thing that happens; progress of a run at most every ten seconds."""

    def __init__(self, num_runs: int, show_value: Callable[[float], str]) -> None:
        self._num_runs = num_runs
        self._num_ended = 0
        self._show_value = show_value
        self._told: dict[str, float] = {}

    def report(self, event: RunEvent) -> None:
        text = self.text(event)
        if text:
            print(text, file=sys.stderr, flush=True)

    def text(self, event: RunEvent) -> str:
        match event:
            case RunStarted(run=run, attempt=attempt, devices=devices):
                again = f" (attempt {attempt})" if attempt > 1 else ""
                return f"started  {run.run_id} on {','.join(devices)}{again}"
            case RunProgressed(run=run, progress=progress):
                now = time.monotonic()
                text = progress_text(progress)
                if not text or now - self._told.get(run.run_id, 0.0) < _PLAIN_INTERVAL_S:
                    return ""
                self._told[run.run_id] = now
                return f"         {run.run_id} {text}"
            case RunEnded():
                self._num_ended += 1
                return self._ending(event)
            case RunRetried(run=run, cause=cause):
                return f"again    {run.run_id} after {cause}{retry_text(event)}"
            case Notice(message=message):
                return f"note     {message}"

    def _ending(self, ended: RunEnded) -> str:
        count = f"[{self._num_ended}/{self._num_runs}]"
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
        return " ".join([*parts, count])


class _Lively:
    """Endings scroll up as lines; what runs now stays below, a line a run."""

    def __init__(
        self, num_runs: int, show_value: Callable[[float], str], live: Live, console: Console
    ) -> None:
        self._plain = _Plain(num_runs, show_value)
        self._live = live
        self._console = console
        self._lines: dict[str, str] = {}

    def report(self, event: RunEvent) -> None:
        style = ""
        match event:
            case RunStarted(run=run, devices=devices):
                self._lines[run.run_id] = f"{run.run_id} on {','.join(devices)}: starting"
            case RunProgressed(run=run, progress=progress):
                self._lines[run.run_id] = f"{run.run_id}: {progress_text(progress)}"
            case RunEnded(run=run, outcome=outcome):
                self._lines.pop(run.run_id, None)
                style = _COLOURS.get(outcome, "red")
            case RunRetried(run=run, cause=cause):
                self._lines[run.run_id] = f"{run.run_id}: waits after {cause}"
                style = "yellow"
            case Notice():
                style = "yellow"
        self._live.update(self._text("\n".join(self._lines.values())), refresh=True)
        if style:
            self._console.print(self._text(self._plain.text(event), style))

    @staticmethod
    def _text(text: str, style: str = "") -> Text:
        from rich.text import Text

        return Text(text, style=style)
