"""How well unequal runs are divided: makespans of the paper's 32 runs beside the lower bound.

    python benchmarks/makespan.py

Simulated, with the hours that HDMNet's authors report for such folds; ratios to the bound that no
division beats. Exits 1 where balanced shards or claims are more than 5% above it.
"""

from __future__ import annotations

import sys

from orchestrator.plan.balance import lower_bound, makespan
from orchestrator.plan.division import Division, parse_division
from orchestrator.plan.plan import Plan
from replicate import api

_SERVERS = (2, 3, 4, 5, 6, 7, 8, 12, 16, 32)
_STATIC = {2: ("dataset",), 4: ("dataset", "backbone"), 8: ("dataset", "backbone", "shot")}
_BUDGET = 1.05


def main() -> int:
    """Print a table of ratios; 0 where the budget is kept."""
    planned = api.plan("abcb")
    hours = sorted((e.hours for e in planned.estimates.values()), reverse=True)
    print("servers  bound h  balanced  claims  by axes")
    worst = 1.0
    for servers in _SERVERS:
        bound = lower_bound(hours, servers)
        balanced = _longest(planned, parse_division((), None, servers)) / bound
        claims = makespan(hours, servers) / bound
        worst = max(worst, balanced, claims)
        axes = _STATIC.get(servers)
        static = f"{_longest(planned, Division(by=axes)) / bound:.2f}" if axes else "-"
        print(f"{servers:7}  {bound:7.1f}  {balanced:8.3f}  {claims:6.3f}  {static:>7}")
    return int(worst > _BUDGET)


def _longest(planned: Plan, division: Division) -> float:
    shards = division.divide(planned.runs, planned.estimates, None)
    return max(sum(planned.estimates[run.run_id].hours for run in s.runs) for s in shards)


if __name__ == "__main__":
    sys.exit(main())
