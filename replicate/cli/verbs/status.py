"""`replicate status [OUT]`: counts by state, the table cell by cell, what runs now."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.plan.forecast import Outlook
from orchestrator.runs.states import LIVE_STATES, RunState, State
from replicate import api
from replicate.cli import arguments as flags
from replicate.cli import s3_arguments as buckets
from replicate.views.live import progress_text
from replicate.views.servers import server_documents, server_lines
from replicate.views.status import SweepStatus
from replicate.views.table import align, duration, notes, results_table

_MOST_WAITING = 20

_MARKS = {
    State.PENDING: "-",
    State.CLAIMED: "claimed",
    State.RUNNING: "running",
    State.STALLED: "stalled",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.UNKNOWN: "?",
    State.DONE: "done",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output",
        nargs="?",
        type=Path,
        metavar="OUT",
        default=Path("outputs") / flags.DEFAULT_STUDY,
        help="output folder (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--reach",
        action="store_true",
        help="ask the servers of a submission over ssh whether their workers live",
    )
    buckets.add_claims(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Always 0 where the folder holds a sweep: a status that could be told is no failure."""
    target = buckets.claims_target(arguments)
    status = api.status(arguments.output, target)
    servers = server_documents(arguments.output, reach=arguments.reach)
    if arguments.json:
        document = {**_document(status), "servers": servers}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        lines = [*server_lines(servers), *([] if target else _elsewhere(arguments, servers))]
        print("\n".join([*_lines(status), *_section("servers", lines)]))
    return 0


def _elsewhere(arguments: argparse.Namespace, servers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where more is told of runs than in this folder."""
    places = dict.fromkeys(each["claims"] for each in servers if each["claims"])
    return [
        f"their runs are shared through {place}: `replicate status {arguments.output} --claims "
        f"{place}` tells of all of them"
        for place in places
    ]


def _lines(status: SweepStatus) -> list[str]:
    counts = Counter(run.state.state for run in status.runs)
    summary = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    lines = [f"study {status.merged.sweep.study!r}: {summary}", ""]
    by_id = {run.run.run_id: run for run in status.runs}
    cells = list(dict.fromkeys(run.run.cell for run in status.runs))
    lines += results_table(
        status.merged.sweep,
        status.merged.document,
        missing_text=lambda run: _MARKS[by_id[run.run_id].state.state],
        cells=cells,
    )
    lines += _section("running now", _now_running(status))
    lines += _section("outlook", _outlook_lines(status.outlook))
    lines += _section("waiting", _waiting(status))
    lines += _section("needs attention", _attention(status))
    return lines


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def _now_running(status: SweepStatus) -> list[str]:
    rows = [["run", "state", "attempt", "progress", "heartbeat", "last output", "on"]]
    rows += [
        [
            entry.run.run_id,
            entry.state.state.value,
            str(entry.state.attempt or "-"),
            progress_text(entry.state) or "starting",
            _age(entry.state.heartbeat_age_s),
            _age(entry.state.output_age_s),
            entry.state.host,
        ]
        for entry in status.runs
        if entry.state.state in LIVE_STATES
    ]
    return align(rows, left=7) if len(rows) > 1 else []


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
        return [f"{text}; none goes on now", *outlook.bases]
    text += f"; at {outlook.at_once} at a time done in {duration(outlook.done_in_h)}"
    cells = [f"{cell} in {duration(h)}" for cell, h in outlook.cells_done_in_h.items()]
    return [text, *(cells if len(cells) > 1 else []), *outlook.bases]


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else f"{max(0.0, seconds):.0f} s ago"


def _attention(status: SweepStatus) -> list[str]:
    lines = [
        f"{_label(entry.state)}: {entry.run.run_id}: {entry.state.reason}"
        for entry in status.runs
        if entry.state.state in (State.FAILED, State.STALLED, State.CANCELLED, State.UNKNOWN)
    ]
    lines += [line for line in notes(status.merged.document) if not line.startswith("incomplete")]
    return lines + [f"kept aside: {p.file}: {p.reason}" for p in status.merged.aside]


def _label(state: RunState) -> str:
    return f"{state.state}({state.cause})" if state.cause else state.state.value


def _document(status: SweepStatus) -> dict[str, Any]:
    return {
        "study": status.merged.sweep.study,
        "counts": dict(Counter(entry.state.state.value for entry in status.runs)),
        "runs": [
            {"run_id": entry.run.run_id, "cell": entry.run.cell, **asdict(entry.state)}
            for entry in status.runs
        ],
        "outlook": asdict(status.outlook) if status.outlook else None,
        "merged": status.merged.document,
    }
