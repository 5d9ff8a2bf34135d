"""What merging 10,000 results costs: all of them, one more, as a frame, and several views.

    python benchmarks/merging.py

Each is measured beside its floor, the bare reading (or, for what reads no
result, the bare parsing) of the same JSON; medians. Exits 1 when a budget is passed.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from control_plane import make_finished_sweep

from merge import to_pandas
from merge.results.view import merge_inputs, rebuild
from merge.storage.paths import SweepPaths

_TURNS = 5
_NUM_CELLS = 2500


def main() -> int:
    """Measure all cases; 0 where every budget is kept."""
    to_pandas_loaded()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        make_finished_sweep(output, num_cells=_NUM_CELLS)
        paths = SweepPaths(output)
        results = sorted(output.glob("*/*/result.json"))
        reading = _seconds(lambda: [json.loads(path.read_bytes()) for path in results])
        verdicts = [
            _report("merge 10,000 results", lambda: _anew(output), reading, 0.5),
            _report("one more result arrives", lambda: _one_more(output, results), reading, 0.5),
        ]
        parsing = _seconds(lambda: json.loads(paths.results.read_bytes()))
        document = json.loads(paths.results.read_bytes())
        into = Path(folder) / "merged_results.json"
        both = [output, paths.results]
        verdicts += [
            _report("to_pandas of 10,000", lambda: to_pandas(document), parsing, 1.0),
            _report("folder and its view", lambda: merge_inputs(both, into), parsing, 4.0),
        ]
        return max(verdicts)


def to_pandas_loaded() -> None:
    """Import pandas before the clock runs: its start is no part of the frame."""
    import pandas as pd  # noqa: PLC0415

    assert pd.DataFrame().empty


def _anew(output: Path) -> None:
    SweepPaths(output).merge_index.unlink(missing_ok=True)
    assert rebuild(output).num_read == 4 * _NUM_CELLS


def _one_more(output: Path, results: list[Path]) -> None:
    arriving = results[0]
    arriving.touch()
    assert rebuild(output).num_read == 1


def _report(name: str, measured: Callable[[], object], floor_s: float, budget_s: float) -> int:
    cost_s = _seconds(measured)
    verdict = "kept" if cost_s <= budget_s else "EXCEEDED"
    print(
        f"{name:<26} {1000 * cost_s:7.0f} ms  {cost_s / floor_s:5.1f} x floor "
        f"({1000 * floor_s:.0f} ms)  budget {1000 * budget_s:.0f} ms: {verdict}"
    )
    return 0 if verdict == "kept" else 1


def _seconds(measured: Callable[[], object]) -> float:
    times = []
    for _ in range(_TURNS):
        start = time.perf_counter()
        measured()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
