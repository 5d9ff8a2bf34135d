"""What a report of 10,000 runs costs in all forms: time beside its floor, and memory.

    python benchmarks/reporting.py

Both times are processor time, which depends less on other load. The floor is the bare reading of
the same results as JSON; the memory is the largest that this process has used. Exits 1 when a
budget is passed.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from control_plane import make_finished_sweep

from replicate import api
from replicate.report.gather import FORMS

_NUM_CELLS = 2500
_BUDGET_S = 10.0
_BUDGET_MB = 500.0


def main() -> int:
    """Measure once, modules loaded included; 0 where both budgets are kept."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        make_finished_sweep(output, num_cells=_NUM_CELLS)
        start = time.process_time()
        for path in output.glob("*/*/result.json"):
            json.loads(path.read_bytes())
        floor_s = time.process_time() - start
        start = time.process_time()
        sizes = [path.stat().st_size for path in api.report(output, forms=FORMS).values()]
        cost_s = time.process_time() - start
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"report of {4 * _NUM_CELLS:,} runs: {cost_s:.1f} s, {cost_s / floor_s:.1f} x floor "
        f"({floor_s:.1f} s), budget {_BUDGET_S:.0f} s; {memory_mb:.0f} MB, budget "
        f"{_BUDGET_MB:.0f} MB; {sum(sizes) / 1e6:.1f} MB written"
    )
    return 0 if cost_s <= _BUDGET_S and memory_mb <= _BUDGET_MB else 1


if __name__ == "__main__":
    sys.exit(main())
