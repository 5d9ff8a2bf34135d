"""What `cancel` and `retry` print: a line or a JSON object for each run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.cancel import RequestOutcome
from replicate.views.table import align, counted

if TYPE_CHECKING:
    from orchestrator.servers.control import StopResult


def show(
    arguments: argparse.Namespace, verb: str, wished: Sequence[RequestOutcome], told: Sequence[str]
) -> int:
    """Print what `verb` meant for each run, and what else there is to tell; an exit code."""
    code = max((entry.exit_code for entry in wished), default=0)
    if arguments.json:
        runs = [asdict(entry) for entry in wished]
        document = {"verb": verb, "is_dry_run": arguments.dry_run, "runs": runs, "told": list(told)}
        print(json.dumps(document, indent=1, ensure_ascii=False))
        return code
    if not wished:
        print(f"no run to {verb}")
    else:
        print("\n".join(_lines(verb, wished, is_dry=arguments.dry_run)))
    for line in told:
        print(line)
    return code


def show_stopped(arguments: argparse.Namespace, stopped: Sequence[StopResult]) -> None:
    """Print what became of each worker that was to be stopped."""
    if arguments.json:
        workers = [worker.to_json() for worker in stopped]
        print(json.dumps({"is_dry_run": arguments.dry_run, "workers": workers}, indent=1))
        return
    for worker in stopped:
        print(f"{worker.server}: {worker.message}")
    if not stopped:
        print("no worker to stop: none that was submitted to a server is at work")


def _lines(verb: str, wished: Sequence[RequestOutcome], *, is_dry: bool) -> list[str]:
    asked = f"would {verb}" if is_dry else verb
    rows = [["", "run", "was", "what follows"]]
    rows += [[asked if w.is_asked else "-", w.run_id, w.was, w.note] for w in wished]
    count = sum(w.is_asked for w in wished)
    return [*align(rows, left=4), "", f"{asked}: {counted(count, 'run')}"]
