"""What differs between two plans where they meet: runs that both have, and how all are read.

Runs that only one of them has, resources, title, published numbers and the code's version may
differ between plans of one sweep; what decides numbers or where they lie may not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from merge.errors import ConfigChangedError
from merge.records.metrics import range_text
from merge.records.plan_axes import key_of, point_of, with_axes_of
from merge.records.sweep import Run, Sweep
from merge.storage.json_files import Json, canonical_json
from merge.wording import listed

_MOST_NAMED = 4
"""Runs that a line of a message names; it says how many more there are."""
_MOST_LINES = 16
_ABSENT = object()


def plan_changes(old: Sweep, new: Sweep) -> tuple[str, ...]:
    """What `new` changes in the runs of `old`, a line each with the runs that it is about.

    Empty where both are plans of one sweep, so that their runs may stand in one table.
    """
    old, new = with_axes_of(old, new), with_axes_of(new, old)
    definition = tuple(_definition_changes(old, new))
    # With other axes no run of one plan is a run of the other one.
    if {axis.name for axis in old.axes} != {axis.name for axis in new.axes}:
        return definition
    definition += tuple(_retyped_values(old, new))
    counted: dict[str, dict[str, None]] = {}
    for run, change in _run_changes(old, new):
        counted.setdefault(change, {})[run.run_id] = None
    # One line a change, not one a run: a changed default is the same in all 10,000 runs.
    return definition + tuple(f"{change} {_in_runs(counted[change])}" for change in sorted(counted))


def refuse_changes(head: str, changes: Sequence[str], advice: str) -> None:
    """ConfigChangedError with `head`, the first of the changes and `advice`, if there are any."""
    if not changes:
        return
    hidden = len(changes) - _MOST_LINES
    more = [f"... and {hidden} more changes"] if hidden > 0 else []
    lines = [f"  {line}" for line in (*changes[:_MOST_LINES], *more)]
    raise ConfigChangedError("\n".join([head, *lines, advice]))


def _definition_changes(old: Sweep, new: Sweep) -> Iterator[str]:
    all_runs = _in_runs([run.run_id for run in old.runs])
    for name in ("study", "average_over", "metric", "goal"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name}: {before} -> {after} {all_runs}"
    if old.metric == new.metric:
        yield from (f"{change} {all_runs}" for change in _metric_changes(old, new))
    before_axes, after_axes = _axes_as_text(old), _axes_as_text(new)
    for name in {**before_axes, **after_axes}:
        if name not in before_axes or name not in after_axes:
            before, after = before_axes.get(name, "absent"), after_axes.get(name, "absent")
            yield f"axis {name}: {before} -> {after} {all_runs}"


def _retyped_values(old: Sweep, new: Sweep) -> Iterator[str]:
    """Values with one text and two types, 1 and `1`: no table, filter or pair tells them apart."""
    for axis in old.axes:
        known = {str(value): value for value in axis.choices}
        for value in new.axis(axis.name).choices:
            planned = known.get(str(value), value)
            if key_of(planned) != key_of(value):
                runs = [r.run_id for r in old.runs if key_of(r.axes[axis.name]) == key_of(planned)]
                yield f"axis {axis.name}: {_shown(planned)} -> {_shown(value)} {_in_runs(runs)}"


def _metric_changes(old: Sweep, new: Sweep) -> Iterator[str]:
    before, after = (sweep.manifest.metric(sweep.metric) for sweep in (old, new))
    # The same number means another value: 0.5 is 50 percent, or half a pixel.
    if before.unit != after.unit:
        yield f"unit of {old.metric}: {before.unit} -> {after.unit}"
    # It decides which results count.
    elif before.limits != after.limits:
        ranges = f"{range_text(before.limits)} -> {range_text(after.limits)}"
        yield f"range of {old.metric}: {ranges}"


def _axes_as_text(sweep: Sweep) -> dict[str, str]:
    return {axis.name: listed(_shown(v) for v in axis.choices) for axis in sweep.axes}


def _run_changes(old: Sweep, new: Sweep) -> Iterator[tuple[Run, str]]:
    """A planned run and what `new` changes in it."""
    planned = {run.run_id: run for run in old.runs}
    added = []
    for run in new.runs:
        known = planned.get(run.run_id)
        if known is None:
            added.append(run)
        else:
            yield from ((known, change) for change in _changes(known, run, new))
    if added:
        places = _Places(old)
        for run in added:
            yield from places.meetings(run, new)


class _Places:
    """Where the runs of a plan stand: points of the grid, folders, cells."""

    def __init__(self, sweep: Sweep) -> None:
        self._names = sorted(axis.name for axis in sweep.axes)
        self._cell_names = [name for name in self._names if name != sweep.average_over]
        self._by_point = {point_of(run, self._names): run for run in sweep.runs}
        # Some file systems take upper and lower case for one name.
        self._by_path = {run.path.casefold(): run for run in sweep.runs}
        self._by_parent = {
            parent: run for run in sweep.runs for parent in _parents(run.path.casefold())
        }
        self._by_cell = {run.cell.casefold(): run for run in sweep.runs}
        self._by_cell_point = {point_of(run, self._cell_names): run for run in sweep.runs}

    def meetings(self, run: Run, sweep: Sweep) -> Iterator[tuple[Run, str]]:
        """The planned runs that an added `run` would change or share a place with."""
        path = run.path.casefold()
        same = self._by_point.get(point_of(run, self._names)) or self._by_path.get(path)
        if same:
            yield from ((same, change) for change in _changes(same, run, sweep))
            return
        parents = (self._by_path[name] for name in _parents(path) if name in self._by_path)
        for other in (*parents, *filter(None, [self._by_parent.get(path)])):
            yield other, f"folder: {run.path} and {other.path}, one inside the other"
        yield from self._meetings_in_cell(run)

    def _meetings_in_cell(self, run: Run) -> Iterator[tuple[Run, str]]:
        point = point_of(run, self._cell_names)
        # A cell is a mean: runs of two methods, or of one under two names, must not be mixed.
        other = self._by_cell.get(run.cell.casefold())
        if other and point_of(other, self._cell_names) != point:
            yield other, f"cell {other.cell}: {self._text(other)} -> {self._text(run)}"
        other = self._by_cell_point.get(point)
        if other and other.cell != run.cell:
            yield other, f"cell: {other.cell} -> {run.cell}"

    def _text(self, run: Run) -> str:
        return ", ".join(f"{name}={_shown(run.axes[name])}" for name in self._cell_names)


def _parents(path: str) -> list[str]:
    """The folders that `path` lies in, below the output folder."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _changes(old: Run, new: Run, sweep: Sweep) -> Iterator[str]:
    for name in ("path", "cell", "experiment"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name}: {before} -> {after}"
    if old.command != new.command:
        before, after = (" ".join(map(str, run.command or ())) for run in (old, new))
        yield f"command: {before} -> {after}"
    yield from _checkpoint_changes(old, new)
    # Equal hashes: nothing that decides numbers differs, and the rest may.
    if old.config_hash != new.config_hash:
        yield from _config_changes(old, new, sweep)


def _checkpoint_changes(old: Run, new: Run) -> Iterator[str]:
    """What differs in what two evaluations evaluate. A hash that one of them lacks is no change."""
    one, other = old.checkpoint, new.checkpoint
    if one is None or other is None:
        if one is not other:
            texts = [each.which if each else "absent" for each in (one, other)]
            yield f"checkpoint: {texts[0]} -> {texts[1]}"
        return
    for name in ("which", "file", "config_hash"):
        before, after = getattr(one, name), getattr(other, name)
        if before != after:
            yield f"checkpoint's {name}: {before} -> {after}"
    if one.sha256 and other.sha256 and one.sha256 != other.sha256:
        yield f"SHA-256 of {one.file}: {one.sha256} -> {other.sha256}"


def _config_changes(old: Run, new: Run, sweep: Sweep) -> Iterator[str]:
    free_keys = {*sweep.free_keys_of(old.config)} & {*sweep.free_keys_of(new.config)}
    is_same_program = (old.experiment, old.command) == (new.experiment, new.command)
    for key in {**old.config, **new.config}:
        before, after = _at(old.config, key), _at(new.config, key)
        if before != after and key not in free_keys:
            is_same_program = False
            yield f"{key}: {before} -> {after}"
    # The rules may have changed that say which keys are in a hash.
    if is_same_program:
        yield f"configuration: {old.config_hash} -> {new.config_hash}"


def _at(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key, _ABSENT)
    return "absent" if value is _ABSENT else _shown(value)


def _in_runs(run_ids: Collection[str]) -> str:
    noun = "run" if len(run_ids) == 1 else "runs"
    return f"(in {len(run_ids)} {noun}: {listed(run_ids, _MOST_NAMED)})"


def _shown(value: Json) -> str:
    return canonical_json(value).decode()
