"""What `cancel` and `retry` print: a line or a JSON object for each run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from merge.foreign_text import one_line
from orchestrator.cancel import RequestOutcome
from replicate.views.columns import align
from replicate.views.table import counted

if TYPE_CHECKING:
    from orchestrator.servers.control import StopResult


def show(
    arguments: argparse.Namespace,
    verb: str,
    outcomes: Sequence[RequestOutcome],
    notes: Sequence[str],
) -> int:
    """Print the outcome of `verb` for each run, then `notes`; returns the exit code."""
    # The largest: 75 (try again later) outweighs 1.
    code = max((entry.exit_code for entry in outcomes), default=0)
    if arguments.json:
        document = {
            "verb": verb,
            "is_dry_run": arguments.dry_run,
            "runs": [asdict(entry) for entry in outcomes],
            "notes": list(notes),
        }
        print(json.dumps(document, indent=1, ensure_ascii=False))
        return code
    if not outcomes:
        print(f"no run to {verb}")
    else:
        print("\n".join(_lines(verb, outcomes, is_dry=arguments.dry_run)))
    for line in notes:
        print(one_line(line))
    return code


def show_stopped(arguments: argparse.Namespace, stopped: Sequence[StopResult]) -> None:
    """Print the outcome for each worker that was to be stopped."""
    if arguments.json:
        workers = [worker.to_json() for worker in stopped]
        print(json.dumps({"is_dry_run": arguments.dry_run, "workers": workers}, indent=1))
        return
    for worker in stopped:
        print(one_line(f"{worker.server}: {worker.message}"))
    if not stopped:
        print("no worker to stop: no submitted worker is running")


def _lines(verb: str, outcomes: Sequence[RequestOutcome], *, is_dry: bool) -> list[str]:
    asked = f"would {verb}" if is_dry else verb
    rows = [["", "run", "was", "what follows"]]
    rows += [[asked if one.is_asked else "-", one.run_id, one.was, one.note] for one in outcomes]
    count = sum(one.is_asked for one in outcomes)
    return [*align(rows, left=4), "", f"{asked}: {counted(count, 'run')}"]
