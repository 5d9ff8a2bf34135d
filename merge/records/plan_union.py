"""The plan that holds the runs of two plans which agree where they meet. Pure.

Values of an axis and runs stand as in a plan that was made whole: in the order of the plan that has
all values of the axis. Where neither has all, `grown_plan` keeps what was planned first, ascending
numbers in their order; `common_plan` sorts, since it must not depend on the order of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from merge.records.growth import Growth
from merge.records.manifest import Manifest
from merge.records.plan_axes import key_of, point_of, with_axes_of
from merge.records.sweep import Axis, Run, Sweep, Value, run_to_json
from merge.storage.json_files import Json, canonical_json
from merge.wording import listed

_T = TypeVar("_T")


class _Pick(Protocol):
    """Chooses between what the first plan has and what the second has."""

    def __call__(self, one: _T, other: _T, key: Callable[[_T], Any], /) -> _T: ...


_Keyed = Mapping[tuple[bool, Value], Value]
_InOrder = Callable[[_Keyed, _Keyed], list[Value]]


def grown_plan(planned: Sweep, more: Sweep) -> Sweep:
    """`planned` with the runs that only `more` has; where both have one, it stays as planned.

    Equal to `planned` where `more` adds nothing.
    """
    return _united(planned, more, _in_order_planned, _planned_first)


def in_order_asked(planned: Sweep, asked: Sweep) -> Sweep:
    """`grown_plan`, with its axes and their values in the order of `asked`, if it has them all."""
    grown = grown_plan(planned, asked)
    names = [axis.name for axis in asked.axes]
    axes = tuple(_axis(asked.axis(name), grown.axis(name), _in_order_planned) for name in names)
    if axes == grown.axes:
        return grown
    return replace(grown, axes=axes, runs=_in_order_of(axes, grown.runs))


def common_plan(one: Sweep, other: Sweep) -> Sweep:
    """The plan of the runs of both: idempotent, commutative, associative."""
    # Of what decides no number (title, code...) one is taken, in any order of the inputs.
    return _united(one, other, _in_common_order, _smaller)


def uneven_cells(sweep: Sweep) -> str:
    """Which cells of the table average over which values; empty where all have the same ones."""
    averaged: dict[str, list[str]] = {}
    for run in sweep.runs:
        if run.in_table:
            averaged.setdefault(run.cell, []).append(str(run.axes[sweep.average_over]))
    kinds: dict[tuple[str, ...], list[str]] = {}
    for cell, values in averaged.items():
        kinds.setdefault(tuple(values), []).append(cell)
    if len(kinds) < 2:
        return ""
    parts = (f"{listed(values)} in {listed(cells, 4)}" for values, cells in kinds.items())
    return f"cells are means over different values of {sweep.average_over}: {'; '.join(parts)}"


def _united(one: Sweep, other: Sweep, in_order: _InOrder, pick: _Pick) -> Sweep:
    one, other = with_axes_of(one, other), with_axes_of(other, one)
    names = pick([axis.name for axis in one.axes], [axis.name for axis in other.axes], _list_text)
    axes = tuple(_axis(one.axis(name), other.axis(name), in_order) for name in names)
    return replace(
        one,
        axes=axes,
        runs=_runs(one, other, axes, pick),
        title=pick(one.title, other.title, str),
        settings=pick(one.settings, other.settings, _text),
        code=pick(one.code, other.code, _text),
        published=pick(one.published, other.published, _text),
        retries=pick(one.retries, other.retries, _text),
        free_keys=pick(one.free_keys, other.free_keys, _list_text),
        code_files=pick(one.code_files, other.code_files, lambda names: _list_text(names or ())),
        frozen_manifest=pick(one.frozen_manifest, other.frozen_manifest, _manifest_text),
        growth=_growth(one.growth, other.growth),
    )


def _planned_first(planned: _T, _more: _T, _key: Callable[[_T], Any], /) -> _T:
    return planned


def _smaller(one: _T, other: _T, key: Callable[[_T], Any], /) -> _T:
    return min(one, other, key=key)


def _text(value: Mapping[str, Json]) -> bytes:
    return canonical_json(dict(value))


def _list_text(value: Sequence[str]) -> bytes:
    return canonical_json(list(value))


def _run_text(run: Run) -> bytes:
    return canonical_json(run_to_json(run))


def _manifest_text(manifest: Manifest | None) -> tuple[bool, bytes]:
    return manifest is None, b"" if manifest is None else canonical_json(manifest.to_json())


def _growth(one: tuple[Growth, ...], other: tuple[Growth, ...]) -> tuple[Growth, ...]:
    if one == other or not other:
        return one
    entries = {canonical_json(entry.to_json()): entry for entry in (*one, *other)}
    return tuple(entries[key] for key in sorted(entries, key=lambda key: (entries[key].at, key)))


def _axis(one: Axis, other: Axis, in_order: _InOrder) -> Axis:
    values = in_order(_keyed(one.values), _keyed(other.values))
    in_table = _keyed(values).keys()
    also = [
        {key: value for key, value in _keyed(axis.also).items() if key not in in_table}
        for axis in (one, other)
    ]
    return Axis(name=one.name, values=tuple(values), also=tuple(in_order(*also)))


def _keyed(values: Iterable[Value]) -> _Keyed:
    return {key_of(value): value for value in values}


def _in_order_planned(planned: _Keyed, more: _Keyed) -> list[Value]:
    if planned.keys() < more.keys():
        return [*more.values()]
    added = [value for key, value in more.items() if key not in planned]
    both = [*planned.values(), *added]
    is_sorted = _is_sorted([*planned.values()]) and _is_sorted([*more.values()])
    return sorted(both, key=_rank) if added and is_sorted and _are_numbers(both) else both


def _in_common_order(one: _Keyed, other: _Keyed) -> list[Value]:
    for each, rest in ((one, other), (other, one)):
        if each.keys() > rest.keys():
            return [*each.values()]
    if one.keys() != other.keys():
        return sorted({**one, **other}.values(), key=_rank)
    # Equal values: what is not sorted was ordered by a person.
    orders = sorted(([*one.values()], [*other.values()]), key=canonical_json)
    return orders[0] if not _is_sorted(orders[0]) else orders[1]


def _rank(value: Value) -> tuple[bool, Value, str]:
    """Numbers in their order, then texts in theirs."""
    return isinstance(value, str), value, type(value).__name__


def _is_sorted(values: Sequence[Value]) -> bool:
    return [*values] == sorted(values, key=_rank)


def _are_numbers(values: Iterable[Value]) -> bool:
    return not any(isinstance(value, str | bool) for value in values)


def _runs(one: Sweep, other: Sweep, axes: tuple[Axis, ...], pick: _Pick) -> tuple[Run, ...]:
    by_id = {run.run_id: run for run in one.runs}
    for run in other.runs:
        known = by_id.setdefault(run.run_id, run)
        if known != run:
            by_id[run.run_id] = _with_known_checkpoint(pick(known, run, _run_text), known, run)
    if axes == one.axes == other.axes and len(by_id) == len(one.runs):
        return tuple(by_id.values())
    return _in_order_of(axes, by_id.values())


def _with_known_checkpoint(picked: Run, *both: Run) -> Run:
    """`picked` with the hash of its checkpoint, if one of `both` was planned after the training."""
    checkpoint = picked.checkpoint
    if checkpoint is None or checkpoint.is_ready:
        return picked
    for run in both:
        checkpoint = checkpoint.known_with(run.checkpoint)
    return replace(picked, checkpoint=checkpoint)


def _in_order_of(axes: tuple[Axis, ...], runs: Iterable[Run]) -> tuple[Run, ...]:
    """`runs` as a plan with these axes lists them, the first axis varying slowest."""
    names = [axis.name for axis in axes]
    places = [{key: place for place, key in enumerate(_keyed(a.choices))} for a in axes]
    tables = [_keyed(axis.values).keys() for axis in axes]
    found: list[tuple[list[int], Run]] = []
    for run in runs:
        point = point_of(run, names)
        in_table = all(key in table for key, table in zip(point, tables, strict=True))
        # A plan that was changed by hand may lack a value on its axis: such a run comes last.
        order = [place.get(key, len(place)) for key, place in zip(point, places, strict=True)]
        found.append((order, run if run.in_table == in_table else replace(run, in_table=in_table)))
    return tuple(run for _, run in sorted(found, key=lambda each: each[0]))
