"""SLURM's commands as one small program with state, to be put on PATH under their names.

State lies in $FAKE_SLURM: `jobs.json` (id -> script, options, environment,
what was recorded when sbatch was called), `rows` (what squeue
prints; of scripts it tells what sbatch was given), `history` (what sacct prints; absent: no
accounting), `config`, `refuse` (sbatch refuses from that job number on), `mute` (it accepts, its
answer is lost), `calls` (every command line). `hang` makes squeue hang.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

NAMES = ("sbatch", "squeue", "scancel", "scontrol", "sacct")


def install(folder: Path) -> Path:
    """Executables for all commands in `folder`/bin, their state in `folder`; returns the bin."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    for name in NAMES:
        script = binaries / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {name} "$@"\n')
        script.chmod(0o755)
    (folder / "config").write_text("MaxArraySize            = 1001\n")
    return binaries


def main(name: str, words: list[str]) -> int:
    state = Path(os.environ["FAKE_SLURM"])
    with (state / "calls").open("a") as calls:
        calls.write(" ".join([name, *words]) + "\n")
    return {"sbatch": sbatch, "squeue": squeue, "sacct": sacct, "scontrol": scontrol}.get(
        name, lambda *_: 0
    )(state, words)


def sbatch(state: Path, words: list[str]) -> int:
    path = state / "jobs.json"
    jobs = json.loads(path.read_text()) if path.exists() else {}
    number = len(jobs) + 1
    refuse = state / "refuse"
    if refuse.exists() and number >= int(refuse.read_text()):
        print("sbatch: error: invalid partition specified: nope", file=sys.stderr)
        return 1
    jobs[number] = {
        "path": words[-1],
        "record": json.loads(Path(words[-1]).with_name("submission.json").read_text()),
        "script": Path(words[-1]).read_text(),
        "options": words[:-1],
        "environment": dict(os.environ),
    }
    path.write_text(json.dumps(jobs))
    if (state / "mute").exists():
        print(
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            file=sys.stderr,
        )
        return 1
    print(f"Submitted batch job {number}")
    return 0


def squeue(state: Path, words: list[str]) -> int:
    if (state / "hang").exists():
        time.sleep(60)
    if any(word.startswith("--user=") for word in words):
        path = state / "jobs.json"
        jobs = json.loads(path.read_text()) if path.exists() else {}
        print("".join(f"{number}_[0-9%2]|{job['path']}\n" for number, job in jobs.items()), end="")
        return 0
    rows = state / "rows"
    if not rows.exists():
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    print(rows.read_text(), end="")
    return 0


def sacct(state: Path, words: list[str]) -> int:
    history = state / "history"
    if not history.exists():
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    print(history.read_text(), end="")
    return 0


def scontrol(state: Path, words: list[str]) -> int:
    if words[:2] == ["show", "config"]:
        print((state / "config").read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
