"""ABCB's head against a dense transcription of its equations: time and memory of a training step.

    python benchmarks/abcb_head.py [--crops 97 193 321 473 641] [--share 0.23] [--repeats 5]

The head is everything after the neck: T = 3 iterations and their loss, forward and backward, one
episode, C = 512, one thread. Every measurement is a process of its own, so that peaks are separate.
Time is processor time, the least of the repeats; memory is the process's peak above what it was
before the step. Exit code 1 where the speed-up at 473 or the growth of memory misses its budget.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from abcb_dense import dense_predictions
from torch import Tensor
from torch.nn import functional

from experiments.backbones.build import build_backbone
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.abcb.sm import QueryCells
from experiments.fewshot.models.abcb.tokens import pack
from experiments.fewshot.options import AbcbOptions

ROOT = Path(__file__).resolve().parent.parent
BUDGET_SPEED_UP = 3.0
BUDGET_GROWTH = 1.3
"""Memory per cell at the largest crop over that at 321: linear is 1, quadratic 3.9."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--crops", type=int, nargs="+", default=[97, 193, 321, 473, 641])
    parser.add_argument("--share", type=float, default=0.23, help="foreground (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile the head")
    parser.add_argument("--one", choices=["head", "dense"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments)))
        return 0
    print(f"{arguments.share:.0%} foreground   ours                dense               ratio")
    rows = {crop: _row(arguments, crop) for crop in arguments.crops}
    return 0 if _is_within_budget(rows) else 1


Row = tuple[dict[str, float], dict[str, float]]


def _row(arguments: argparse.Namespace, crop: int) -> Row:
    ours, dense = (_in_process(arguments, crop, which) for which in ("head", "dense"))
    cells = ((crop + 7) // 8) ** 2
    texts = [f"{x['seconds']:6.2f} s {x['peak_mb']:6.0f} MB" for x in (ours, dense)]
    ratio = dense["seconds"] / ours["seconds"]
    print(f"{crop:4d} px {cells:5d} cells  {texts[0]}  {texts[1]}  {ratio:.1f}x", flush=True)
    return ours, dense


def _is_within_budget(rows: dict[int, Row]) -> bool:
    is_fine = True
    if 473 in rows:
        is_fine = rows[473][1]["seconds"] / rows[473][0]["seconds"] >= BUDGET_SPEED_UP
    if {321, max(rows)} <= set(rows) and max(rows) > 321:
        per_cell = [rows[c][0]["peak_mb"] / ((c + 7) // 8) ** 2 for c in (321, max(rows))]
        print(f"memory a cell, {max(rows)} px over 321 px: {per_cell[1] / per_cell[0]:.2f}")
        is_fine = is_fine and per_cell[1] <= BUDGET_GROWTH * per_cell[0]
    return is_fine


def _in_process(arguments: argparse.Namespace, crop: int, which: str) -> dict[str, float]:
    options = ["--crops", str(crop), "--share", str(arguments.share), "--one", which]
    options += ["--repeats", str(arguments.repeats), *(["--compile"] * arguments.compile)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, *options], env=environment, check=True, capture_output=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds and peak MB of one training step of the head or of the transcription."""
    torch.set_num_threads(1)
    step = _build(arguments.one, (arguments.crops[0] + 7) // 8, arguments.share, arguments.compile)
    before = _peak_mb()
    times = []
    for _ in range(arguments.repeats):
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    return {"seconds": min(times), "peak_mb": _peak_mb() - before}


def _build(which: str, side: int, share: float, is_compiled: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    cells = side * side
    is_foreground = (torch.arange(cells) < share * cells)[torch.randperm(cells)]

    class FixedSplit(Abcb):
        """The same share of foreground in every iteration, whatever the weights say."""

        def _foreground(self, logits_BN2: Tensor) -> Tensor:  # noqa: ARG002
            return is_foreground[None]

    backbone = build_backbone("efficientnet_lite0", from_scratch=True, levels=(2,))
    model = FixedSplit(backbone, AbcbOptions(initialisation="random", neck="convolution"))
    f_q = torch.randn(1, cells, 512, requires_grad=True)
    f_s = torch.randn(1, cells, 512, requires_grad=True)
    colour = torch.rand(1, cells, 3) * 255
    query = QueryCells(f_q, colour, colour / 128 - 1)
    target = torch.randint(0, 2, (cells,))
    iterate = torch.compile(model._iterate) if is_compiled else model._iterate

    def step() -> None:
        if which == "head":
            predictions, hats = iterate(pack(f_s, is_foreground[None]), query)
        else:
            predictions, hats = dense_predictions(
                model, f_s[0, is_foreground], query, is_foreground
            )
        losses = [functional.cross_entropy(p.view(cells, 2), target) for p in predictions]
        losses += [0.2 * functional.cross_entropy(p.view(cells, 2), target) for p in hats]
        torch.stack(losses).sum().backward()

    return step


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
