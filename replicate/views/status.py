"""The status of a sweep as text and as a JSON document. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from merge.foreign_text import one_line
from orchestrator.plan.forecast import Outlook
from orchestrator.runs.states import LIVE_STATES, State
from orchestrator.status import RunStatus, SweepStatus
from replicate.views.columns import align
from replicate.views.evaluations import evaluation_lines
from replicate.views.missing import mark, state_text
from replicate.views.progress import progress_text
from replicate.views.servers import server_lines
from replicate.views.table import age, duration, notes, results_table

# A sweep of thousands of runs waits in a queue with one reason; the runs that need a person must
# stay on the screen.
_MOST_WAITING = 20
_NEED_ATTENTION = (State.FAILED, State.STALLED, State.CANCELLED, State.UNKNOWN)


def status_lines(status: SweepStatus, *, server_notes: list[str]) -> list[str]:
    """The lines of `replicate status`; `server_notes` stand below the servers."""
    counts = status.counts
    summary = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    by_id = {entry.run.run_id: entry.state.state for entry in status.runs}
    table = results_table(
        status.merged.sweep,
        status.merged.document,
        missing_text=lambda run: mark(by_id[run.run_id]),
        cells=list(dict.fromkeys(entry.run.cell for entry in status.runs)),
    )
    return [
        f"study {status.merged.sweep.study!r}: {summary}",
        "",
        *table,
        *_section("running now", _now_running(status)),
        *_section("outlook", _outlook_lines(status.outlook)),
        *_section("waiting", _waiting(status)),
        *_section("needs attention", _attention(status)),
        *_section("servers", [*server_lines(status.servers), *server_notes]),
        *map(one_line, evaluation_lines(status.merged.evaluations)),
    ]


def status_document(status: SweepStatus) -> dict[str, Any]:
    """What `replicate status --json` prints."""
    return {
        "study": status.merged.sweep.study,
        "counts": dict(Counter(entry.state.state.value for entry in status.runs)),
        "runs": [
            {"run_id": entry.run.run_id, "cell": entry.run.cell, **asdict(entry.state)}
            for entry in status.runs
        ],
        "outlook": asdict(status.outlook) if status.outlook else None,
        "merged": status.merged.document,
        "servers": [asdict(server) for server in status.servers],
        "jobs": [asdict(job) for job in status.jobs],
    }


def _section(title: str, lines: list[str]) -> list[str]:
    # A reason may be what a trainer wrote.
    return ["", title, *map(one_line, lines)] if lines else []


def _now_running(status: SweepStatus) -> list[str]:
    rows = [_running_row(entry) for entry in status.runs if entry.state.state in LIVE_STATES]
    header = ["run", "state", "attempt", "progress", "heartbeat", "last output", "on"]
    return align([header, *rows], left=7) if rows else []


def _running_row(entry: RunStatus) -> list[str]:
    state = entry.state
    return [
        entry.run.run_id,
        state.state.value,
        str(state.attempt or "-"),
        progress_text(state) or "starting",
        age(state.heartbeat_age_s),
        age(state.output_age_s),
        state.host,
    ]


def _waiting(status: SweepStatus) -> list[str]:
    lines = [
        f"{entry.run.run_id}: {entry.state.reason}"
        for entry in status.runs
        if entry.state.state is State.PENDING and entry.state.reason
    ]
    more = len(lines) - _MOST_WAITING
    return lines[:_MOST_WAITING] + ([f"... and {more} more"] if more > 0 else [])


def _outlook_lines(outlook: Outlook | None) -> list[str]:
    if outlook is None:
        return []
    text = f"{outlook.num_left} runs left, {duration(outlook.training_h)} of training"
    if outlook.done_in_h is None:
        return [f"{text}; none runs now", *outlook.bases]
    text += f"; at {outlook.at_once} at a time done in {duration(outlook.done_in_h)}"
    cells = [f"{cell} in {duration(h)}" for cell, h in outlook.cells_done_in_h.items()]
    return [text, *(cells if len(cells) > 1 else []), *outlook.bases]


def _attention(status: SweepStatus) -> list[str]:
    lines = [
        state_text(entry.run.run_id, entry.state)
        for entry in status.runs
        if entry.state.state in _NEED_ATTENTION
    ]
    # Incomplete cells are normal while a sweep runs, and the table shows them.
    lines += [line for line in notes(status.merged.document) if not line.startswith("incomplete")]
    return lines + [f"kept aside: {p.file}: {p.reason}" for p in status.merged.aside]
