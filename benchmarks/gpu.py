"""What the few-shot method `abcb` reaches on a GPU, beside the budgets: one command, 4 minutes.

    python benchmarks/gpu.py [--data-root DIR] [--seconds 240]

Nothing is downloaded: weights are random, images are random or generated; with --data-root, which
holds COCO in its layout, `replicate run` and the loader read those. The parts run in a process of
their own, so that a part that fails, or runs too long, costs no other part. Without a GPU it says
so and exits with 0. Exit code 1 where a budget is missed or could not be measured. Most of the time
goes into compiling; a second call finds the compiled code in torch's cache and reaches all parts.

    python benchmarks/gpu.py --device cpu --small

runs every line on a CPU with a small model, to see that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
STEP = "step, batch 16, crop 473"


@dataclass(frozen=True, slots=True)
class Budget:
    """A figure and what it may be at most, or at least."""

    row: str
    limit: float
    is_most: bool = True
    over: str = ""
    """Another row by which it is divided."""


BUDGETS = (
    Budget(f"{STEP}, without waiting", 45),
    Budget("evaluation, an episode", 10),
    Budget("`replicate run`, a step, batch 16, crop 473", 1.25, over=f"{STEP}, without waiting"),
    Budget("head, batch 16, 23%, speed-up", 10, is_most=False),
    Budget("head, batch 16, 23%, less memory", 5, is_most=False),
    Budget("histogram, forward and backward, 23%", 1),
    Budget("error of the histogram kernel", 4),
    Budget("error of its gradient", 8),
    Budget("error of packed attention", 4),
    Budget("error of its gradients", 8),
    Budget("error of the constant backbone", 16),
)


@dataclass(slots=True)
class Measured:
    """What the parts gave so far."""

    rows: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def main() -> int:
    arguments = _arguments()
    if arguments.child:
        return _measure(arguments)
    if arguments.device == "cuda" and not _has_gpu():
        print("no GPU here (torch sees none): nothing was measured")
        return 0
    began = time.monotonic()
    _print_place(arguments)
    measured = Measured()
    _measure_all(arguments, measured, began + arguments.seconds)
    _print_shares(measured)
    for problem in measured.problems:
        print(f"problem: {problem}")
    is_fine = _print_budgets(measured)
    print(f"{time.monotonic() - began:.0f} s in all")
    return 0 if is_fine or arguments.small else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="a small model: does it run at all?")
    parser.add_argument("--seconds", type=float, default=240, help="at most (%(default)s)")
    parser.add_argument("--data-root", default="", help="folder with COCO's images")
    parser.add_argument("--parts", nargs="+", default=[], help="only these")
    parser.add_argument("--child", nargs="+", default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cpu" and not (arguments.small or arguments.child):
        parser.error("--device cpu only with --small: its figures mean nothing")
    return arguments


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _print_place(arguments: argparse.Namespace) -> None:
    import torch

    named = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    commit = named.stdout.strip() or "unknown"
    device = "CPU, small"
    if arguments.device == "cuda":
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    today = time.strftime("%Y-%m-%d")
    print(f"{today}, {device}, torch {torch.__version__}, commit {commit}", flush=True)


# ---------------------------------------------------------------- the parent


def _measure_all(arguments: argparse.Namespace, measured: Measured, deadline: float) -> None:
    """Each part once; a process that ends or hangs in one is replaced for the parts after it."""
    # torch is imported by the child alone: a broken context of CUDA must not reach this process.
    left = arguments.parts or _part_names()
    while left and time.monotonic() < deadline:
        left = _measure_in_process(arguments, left, measured, deadline)
    measured.problems += [f"{part}: no time was left" for part in left]


def _part_names() -> list[str]:
    from gpu_parts import PARTS

    return list(PARTS)


def _measure_in_process(
    arguments: argparse.Namespace, parts: list[str], measured: Measured, deadline: float
) -> list[str]:
    """Start a process on the parts; those that are left when it has ended."""
    words = [sys.executable, __file__, "--device", arguments.device]
    words += ["--data-root", arguments.data_root, *(["--small"] * arguments.small)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTORCH_ALLOC_CONF": os.environ.get("PYTORCH_ALLOC_CONF", "expandable_segments:True"),
    }
    process = subprocess.Popen(
        [*words, "--child", *parts], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    lines = _lines_of(process.stdout)
    left = list(parts)
    try:
        while left:
            line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
            if line is None:
                measured.problems.append(f"{left[0]}: its process ended ({process.wait()})")
                return left[1:]
            _take(line, measured)
            left.pop(0)
    except queue.Empty:
        measured.problems.append(f"{left[0]}: was not done when the time was over")
        return left[1:]
    finally:
        process.kill()
        process.wait()
    return left


def _lines_of(stream: IO[str]) -> queue.Queue[str | None]:
    """Lines that begin with a brace, then None; read by a thread, so that waiting can end."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            if line.startswith("{"):
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _take(line: str, measured: Measured) -> None:
    done = json.loads(line)
    if "error" in done:
        measured.problems.append(f"{done['part']}: {done['error']}")
    for name, value, unit in done["rows"]:
        measured.rows[name] = value
        print(f"{name:52s} {value:10.4g} {unit}", flush=True)


# ---------------------------------------------------------------- the child


def _measure(arguments: argparse.Namespace) -> int:
    """Measure parts; one line of JSON for each."""
    sys.path.insert(0, str(Path(__file__).parent))
    from gpu_models import Scale
    from gpu_parts import PARTS
    from gpu_runs import rank

    scale = Scale(arguments.device, arguments.small, arguments.data_root)
    for part in arguments.child:
        record: dict[str, object] = {"part": part, "rows": []}
        try:
            record["rows"] = (rank if part == "rank" else PARTS[part])(scale)
        except Exception as error:  # noqa: BLE001
            record["error"] = f"{type(error).__name__}: {str(error).strip()[:600]}"
        _forget()
        if part != "rank" or record["rows"] or "error" in record:
            print(json.dumps(record), flush=True)
    return 0


def _forget() -> None:
    """Free what a part compiled and kept: the next one has another model."""
    import gc

    import torch

    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# ---------------------------------------------------------------- the verdict


def _print_shares(measured: Measured) -> None:
    rows = measured.rows
    needed = (
        "bf16 product, 8192^3",
        "work of a step, batch 16, crop 473",
        f"{STEP}, without waiting",
    )
    if all(name in rows for name in needed):
        rate, work, step_ms = (rows[name] for name in needed)
        share = work / (step_ms / 1e3) / rate
        print(f"share of the device's bf16 rate in a step: {share:.0%}")


def _print_budgets(measured: Measured) -> bool:
    """Each budget with pass or miss; whether all are met."""
    verdicts = []
    for budget in BUDGETS:
        value = _value(budget, measured.rows)
        is_met = value is not None and (
            value <= budget.limit if budget.is_most else value >= budget.limit
        )
        shown = "not measured" if value is None else f"{value:.4g}"
        word = "at most" if budget.is_most else "at least"
        of = " over the bare step" if budget.over else ""
        verdict = "pass" if is_met else "MISS"
        print(f"{verdict}: {budget.row}{of}: {shown}, {word} {budget.limit:g}")
        verdicts.append(is_met)
    return all(verdicts)


def _value(budget: Budget, rows: dict[str, float]) -> float | None:
    names = [budget.row, *([budget.over] if budget.over else [])]
    if not all(name in rows for name in names):
        return None
    return rows[budget.row] / rows[budget.over] if budget.over else rows[budget.row]


if __name__ == "__main__":
    sys.exit(main())
