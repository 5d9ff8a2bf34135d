"""Claims and commits no-op runs in a bare loop, for tests of many claimants on one folder.

python drive_claims.py OUTPUT NUM_RUNS HOST SEED EXPIRY_S [PAUSE_S]

Takes the runs r0000, r0001, ... from a place that SEED decides, until each has its result. A run is
"executed" by creating a file of its own, `executed/<run>.<token>`. Ends when all have a result.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from merge.records.records import Claim, Owner
from merge.records.result import Result
from merge.storage.atomic import write_exclusive
from merge.storage.paths import RunPaths
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Finished, Taken, take
from orchestrator.runs.commit import commit_result
from orchestrator.runs.heartbeat import Heartbeat
from orchestrator.runs.heartbeat_watch import HeartbeatWatch

HASH = "0123456789abcdef"


def main(
    output: Path, num_runs: int, host: str, seed: int, expiry_s: float, pause_s: float
) -> None:
    owner = replace(this_owner(), host=host)
    watch = HeartbeatWatch()
    open_runs = [f"r{number:04d}" for number in range(num_runs)]
    first = random.Random(seed).randrange(num_runs)
    open_runs = open_runs[first:] + open_runs[:first]
    with Heartbeat(expiry_s / 6, lambda _: None) as heart:
        while open_runs:
            busy = []
            for name in open_runs:
                paths = RunPaths(output / name)
                if not _has_ended(paths, owner, expiry_s, watch, heart, pause_s):
                    busy.append(name)
            open_runs = busy
            if busy:
                time.sleep(expiry_s / 6)


def _has_ended(
    paths: RunPaths,
    owner: Owner,
    expiry_s: float,
    watch: HeartbeatWatch,
    heart: Heartbeat,
    pause_s: float,
) -> bool:
    taking = take(paths, HASH, owner, now=time.time(), expiry_s=expiry_s, watch=watch)
    if isinstance(taking, Finished):
        return True
    if not isinstance(taking, Taken):
        return False
    heart.hold(paths, taking.claim)
    try:
        _execute(paths, taking.claim, pause_s)
    finally:
        heart.let_go(taking.claim.token)
    return True


def _execute(paths: RunPaths, claim: Claim, pause_s: float) -> None:
    executed = paths.root.parent / "executed" / f"{paths.root.name}.{claim.token}"
    assert write_exclusive(executed, lambda file: file.write(claim.owner.host.encode()))
    threading.Event().wait(pause_s)
    result = Result(
        run_id=paths.root.name,
        config_hash=HASH,
        axes={},
        metrics={"score": 0.5},
        attempt=claim.number,
        token=claim.token,
        started=time.time(),
        finished=time.time(),
    )
    commit_result(paths, claim, result)


if __name__ == "__main__":
    words = [*sys.argv[1:], "0"]
    main(Path(words[0]), int(words[1]), words[2], int(words[3]), float(words[4]), float(words[5]))
