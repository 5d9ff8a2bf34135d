"""A trainer that can be stopped anywhere and still comes to the same number, for scheduler tests.

python steady_trainer.py NUM_STEPS STEP_SECONDS [SAVE_EVERY]

Saves its state every SAVE_EVERY steps and on SIGTERM; ends with a number that any lost or repeated
step would change. Every start and every stop leaves a line in `diary.txt` of its run folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType


def main(num_steps: int, step_s: float, save_every: int) -> None:
    folder = Path(os.environ["PAPERGRID_RUN_DIR"])
    attempt = Path(os.environ["PAPERGRID_ATTEMPT_DIR"])
    checkpoint = folder / "state.json"
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, note)
    state = {"step": 0, "chain": os.environ.get("PAPERGRID_CONFIG_FOLD", "")}
    if checkpoint.exists():
        state = json.loads(checkpoint.read_text())
    write_diary(folder, f"start {state['step']} on {os.uname().nodename}")
    while state["step"] < num_steps:
        chained = f"{state['chain']}/{state['step']}"
        state = {
            "step": state["step"] + 1,
            "chain": hashlib.sha256(chained.encode()).hexdigest(),
        }
        print("step", state["step"], flush=True)
        time.sleep(step_s)
        if asked or state["step"] % save_every == 0:
            save(checkpoint, state)
        if asked:
            write_diary(folder, f"stop {state['step']} by {signal.Signals(asked[0]).name}")
            return
    score = int(state["chain"][:12], 16) / 16**12
    save(attempt / "result.json", {"metrics": {"score": score}})


def save(path: Path, value: object) -> None:
    """Of several ranks the first one writes."""
    if os.environ.get("RANK", "0") != "0":
        return
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def write_diary(folder: Path, line: str) -> None:
    with (folder / "diary.txt").open("a") as diary:
        diary.write(line + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 10**9)
