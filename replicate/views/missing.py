"""Runs that no table counts: what stands in their place, and how many failed of which cause."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from merge.records.sweep import Run
from merge.results.combine import Merged
from orchestrator.runs.states import RunState, State, read_states

_MARKS = {State.PENDING: "-", State.UNKNOWN: "?", State.DONE: "not counted"}
"""What stands in the table for a run without a number; other states are shown by name."""


_MOST_FAILED = 5
"""A broken study fails in every run: the table must stay on the screen."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The states of the runs without a counted result, by run id."""

    states: Mapping[str, RunState]

    def text(self, run: Run) -> str:
        """What stands in the table for `run`."""
        state = self.states.get(run.run_id)
        return mark(state.state) if state else mark(State.PENDING)

    def of(self, runs: Iterable[Run]) -> list[Run]:
        """Those of `runs` that were begun, and have no counted result."""
        states = self.states
        return [r for r in runs if r.run_id in states and not _is_untouched(states[r.run_id])]

    def failures(self) -> str:
        """`3 runs failed, by cause: 2 cuda_oom, 1 data`; empty where none has."""
        causes = Counter(
            str(state.cause or "unknown")
            for state in self.states.values()
            if state.state is State.FAILED
        )
        if not causes:
            return ""
        total = sum(causes.values())
        each = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
        return f"{total} {'run' if total == 1 else 'runs'} failed, by cause: {each}"

    def failed_lines(self) -> list[str]:
        """The first failed runs, each with its reason and the log that says more."""
        failed = [(name, s) for name, s in self.states.items() if s.state is State.FAILED]
        return [state_text(name, state) for name, state in failed[:_MOST_FAILED]]


def state_text(run_id: str, state: RunState) -> str:
    """`failed(data): RUN: why; log FILE`."""
    label = f"{state.state}({state.cause})" if state.cause else state.state.value
    has_log = state.log and state.state in (State.FAILED, State.STALLED)
    return f"{label}: {run_id}: {state.reason}" + (f"; log {state.log}" if has_log else "")


def _is_untouched(state: RunState) -> bool:
    return state.state is State.PENDING


ALL_COUNTED = Missing({})


def mark(state: State) -> str:
    """What stands in the table for a run in `state` without a number."""
    return _MARKS.get(state, state.value)


def read_missing(output: Path, merged: Merged) -> Missing:
    """The runs of the sweep in `output` that `merged` does not count. Reads only."""
    cells, axis = merged.document["results"], merged.sweep.average_over
    runs = [
        run
        for run in merged.sweep.runs
        if (run.in_table or run.cell in cells)
        and str(run.axes[axis]) not in cells.get(run.cell, {})
    ]
    states = read_states(output, runs, time.time())
    return Missing({run.run_id: state for run, state in zip(runs, states, strict=True)})
