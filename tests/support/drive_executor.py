"""Runs the plan in OUTPUT/sweep.json by `run_local`, in a process of its own, for tests.

python drive_executor.py OUTPUT [SLOTS] [--host NAME] [--grace S] [--heartbeat S] [--expiry S]
                   [--stand-by] [--retries N | --default-retries]

Prints a line for each event, the guard's id first, and exits with the report's exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from merge.records.records import Cause
from merge.records.sweep import read_sweep
from merge.storage.paths import SweepPaths
from orchestrator.local.events import (
    Notice,
    RunEnded,
    RunEvent,
    RunProgressed,
    RunRetried,
    RunStarted,
)
from orchestrator.local.executor import LocalSettings, run_local
from orchestrator.machine.devices import Devices
from orchestrator.machine.owners import this_owner
from orchestrator.runs.retries import Policy, Rule


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("slots", type=int, nargs="?", default=1)
    parser.add_argument("--host", default=os.uname().nodename)
    parser.add_argument("--retries", type=int, default=0, help="after a kill, each 600 s later")
    parser.add_argument("--grace", type=float, default=20.0)
    parser.add_argument("--heartbeat", type=float, default=10.0)
    parser.add_argument("--expiry", type=float, default=60.0)
    parser.add_argument("--stand-by", action="store_true")
    parser.add_argument("--default-retries", action="store_true", help="by the default rules")
    arguments = parser.parse_args()
    settings = LocalSettings(
        devices=Devices(kind="cpu", slots=tuple(f"cpu{i}" for i in range(arguments.slots))),
        cache_dir=arguments.output / "cache",
        grace_s=arguments.grace,
        heartbeat_s=arguments.heartbeat,
        expiry_s=arguments.expiry,
        stand_by=arguments.stand_by,
        retries=_policy(arguments),
        owner=replace(this_owner(), host=arguments.host),
    )
    sweep = read_sweep(SweepPaths(arguments.output).sweep)
    return run_local(sweep, sweep.runs, arguments.output, settings, tell).exit_code


def _policy(arguments: argparse.Namespace) -> Policy:
    if arguments.default_retries:
        return Policy()
    return Policy(rules={Cause.KILLED: Rule(limit=arguments.retries, wait_s=600)})


def tell(event: RunEvent) -> None:
    match event:
        case RunStarted():
            print("started", event.run.run_id, event.attempt, flush=True)
        case RunProgressed():
            print("progress", event.run.run_id, event.progress.epoch, flush=True)
        case RunEnded():
            print("ended", event.run.run_id, event.outcome, event.reason, flush=True)
        case RunRetried():
            print("again", event.run.run_id, event.cause, event.count, flush=True)
        case Notice():
            print("notice", event.message, flush=True)


if __name__ == "__main__":
    sys.exit(main())
