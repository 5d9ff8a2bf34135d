"""The difference of two methods, paired over the runs of one output folder, with intervals.

    replicate run --study compare --output-dir outputs/compare
    python benchmarks/paired_methods.py outputs/compare --better abcb --than prototype

Pairs are runs of equal axes but for the method; seeds that lack a fold are left out and named.
Intervals are Student's t at 95%: over the seeds, each by its mean over folds, and over the pairs,
which treats folds of one seed as independent. Exit code 1 where the first does not exclude 0.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from scipy import stats

FOLDS = (0, 1, 2, 3)
Folds = dict[int, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", type=Path)
    parser.add_argument("--better", default="abcb")
    parser.add_argument("--than", default="prototype")
    arguments = parser.parse_args()
    scores = _scores(arguments.output)
    by_seed = []
    for seed in sorted({seed for _, seed in scores}):
        first, second = (scores[name, seed] for name in (arguments.better, arguments.than))
        if set(first) == set(second) == set(FOLDS):
            by_seed.append((first, second))
            print(f"seed {seed}: {arguments.better} {_row(first)}, {arguments.than} {_row(second)}")
        else:
            print(f"seed {seed} left out: folds {sorted(first)} against {sorted(second)}")
    if len(by_seed) < 2:
        print("an interval needs two complete seeds")
        return 1
    pairs = [[first[fold] - second[fold] for fold in FOLDS] for first, second in by_seed]
    over_seeds = _interval("over seeds", [statistics.fmean(row) for row in pairs])
    _interval("over pairs", [difference for row in pairs for difference in row])
    return 0 if over_seeds[0] > 0 else 1


def _scores(output: Path) -> dict[tuple[str, int], Folds]:
    scores: dict[tuple[str, int], Folds] = defaultdict(dict)
    for path in sorted(output.glob("*/fold*/result.json")):
        result = json.loads(path.read_text())
        axes = result["axes"]
        scores[axes["method"], axes["seed"]][axes["fold"]] = result["metrics"]["miou"]
    return scores


def _row(folds: Folds) -> str:
    values = [folds[fold] for fold in FOLDS]
    shown = " ".join(f"{100 * value:.1f}" for value in values)
    return f"{shown} = {100 * statistics.fmean(values):.1f}"


def _interval(name: str, differences: list[float]) -> tuple[float, float]:
    centre, count = statistics.fmean(differences), len(differences)
    quantile = float(stats.t.ppf(0.975, count - 1))
    half = quantile * statistics.stdev(differences) / math.sqrt(count)
    low, high = centre - half, centre + half
    print(f"{name} (n = {count}): {100 * centre:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points")
    return low, high


if __name__ == "__main__":
    sys.exit(main())
