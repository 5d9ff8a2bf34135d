"""A plan that grows: what is added, who added it, and the file that is replaced.

Any number of people may grow one folder's plan at the same time: each reads the file again while it
holds the lock, adds its runs to what is there, and replaces the file in one step. Workers that
started with the smaller plan go on: no run that was planned changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from merge.records.growth import Growth
from merge.records.plan_union import grown_plan, in_order_asked
from merge.records.sweep import Sweep, read_sweep
from merge.storage.control_paths import plan_lock
from merge.storage.json_files import write_json
from merge.storage.locking import exclusively
from merge.storage.nfs import read_whole
from merge.storage.paths import SweepPaths
from merge.wording import listed

_MOST_NAMED = 12
_DISPLAYED = ("title", "published")
"""Fields of a plan that only a table shows."""


def grow_by_study(planned: Sweep, asked: Sweep, entry: Growth) -> Sweep:
    """`planned` with the runs that `asked` adds, and its title, published numbers and order.

    `planned` itself where nothing is new. `entry` says who asks; what changes is added to it.
    """
    shown = {name: getattr(asked, name) for name in _DISPLAYED}
    grown = replace(in_order_asked(planned, asked), **shown)
    if grown == planned:
        return planned
    added = _added(planned, grown)
    changed = tuple(n for n in _DISPLAYED if getattr(planned, n) != getattr(grown, n))
    if not added and planned.axes != grown.axes:
        changed = (*changed, "axes")
    # Without added runs the study's text tells nothing that the plan does not hold.
    entry = replace(entry, runs=added, changed=changed, study=entry.study if added else "")
    # Two people with two titles would make the list grow with each command.
    kept = [g for g in grown.growth if added or g.runs or g.changed != changed]
    return replace(grown, growth=(*kept, entry))


def grow_by_copy(planned: Sweep, copy: Sweep, entry: Growth) -> Sweep:
    """`planned` with what another copy of the plan has more; `planned` itself for nothing.

    Title and published numbers are those of the copy where they were changed last.
    """
    is_newer = _displayed_at(copy) > _displayed_at(planned)
    changed = [n for n in _DISPLAYED if is_newer and getattr(planned, n) != getattr(copy, n)]
    union = grown_plan(planned, copy)
    grown = replace(union, **{name: getattr(copy, name) for name in changed})
    if unrecorded := set(_added(planned, grown)) - _recorded_runs(copy):
        runs = tuple(run.run_id for run in grown.runs if run.run_id in unrecorded)
        grown = replace(grown, growth=(*grown.growth, replace(entry, runs=runs)))
    return planned if grown == planned else grown


def grow_plan_file(output: Path, grow: Callable[[Sweep], Sweep]) -> Sweep:
    """Replace the plan of an output folder by `grow(plan)`, unless that is equal; returns it.

    FileNotFoundError where there is no plan, RecordError where it cannot be read.
    """

    path = SweepPaths(output).sweep

    def write() -> Sweep:
        planned = read_sweep(path)
        grown = grow(planned)
        if grown != planned:
            write_json(path, grown.to_json())
        return grown

    return exclusively(plan_lock(output), write, lambda: read_whole(path))


def growth_notes(planned: Sweep, asked: Sweep) -> list[str]:
    """What a person must know of how `asked` and the plan `planned` differ; a line each."""
    added, unnamed = _added(planned, asked), _added(asked, planned)
    count = len(planned.runs)
    lines = []
    if added:
        lines.append(
            f"this study adds {len(added)} {'run' if len(added) == 1 else 'runs'} to the {count} "
            f"planned before: "
            f"{listed(added, _MOST_NAMED)}"
        )
    if unnamed:
        lines.append(
            f"this study does not name {len(unnamed)} of the {count} planned runs; they stay in "
            f"the plan and in the table: {listed(unnamed, _MOST_NAMED)}"
        )
    changed = [name for name in _DISPLAYED if getattr(planned, name) != getattr(asked, name)]
    texts = {"title": "title", "published": "published numbers"}
    return lines + [f"the plan takes the study's new {texts[name]}" for name in changed]


def _added(planned: Sweep, grown: Sweep) -> tuple[str, ...]:
    before = {run.run_id for run in planned.runs}
    return tuple(run.run_id for run in grown.runs if run.run_id not in before)


def _displayed_at(sweep: Sweep) -> float:
    return max((growth.at for growth in sweep.growth if growth.changed), default=0.0)


def _recorded_runs(sweep: Sweep) -> set[str]:
    return {run_id for growth in sweep.growth for run_id in growth.runs}
