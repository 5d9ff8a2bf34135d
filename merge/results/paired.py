"""Paired comparison of two values of an axis, such as two methods. Pure.

A pair is two runs that differ in the compared axis alone. The p-value is of the sign-flip
permutation test: under the null hypothesis each difference is as likely with either sign.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from merge.errors import IncompleteError, SelectionError
from merge.records.short_repr import ShortRepr
from merge.records.sweep import Run, Sweep
from merge.results.code_flags import pair_differences
from merge.results.entries import Entry
from merge.results.flags import NOT_RECORDED
from merge.results.parts import part_of_entry
from merge.results.statistics import Interval, mean, sample_std, t_interval

# 2**14 sign patterns are counted in a fraction of a second; each further pair doubles them.
_MOST_EXACT = 14
_NUM_FLIPS = 20_000
# Sums of the same differences in another order may differ in the last bits: they must count as
# equal to the observed one.
_ROUNDING = 1e-12

_Statistic = TypeVar("_Statistic")
_Pair = tuple[str, list[Run | None]]
"""What two runs share, and the runs; None for one that the study does not have."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(ShortRepr):
    """Differences `second - first` over pairs of runs."""

    name: str
    """What the pairs share: a cell without the compared axis, or `all`."""
    pairs: tuple[str, ...]
    differences: tuple[float, ...]
    missing: tuple[str, ...]
    """Pairs that lack a run, and which."""
    warnings: tuple[str, ...]
    """Pairs that were not tested on the same, or whose numbers have no statistics."""
    excluded: tuple[str, ...] = ()
    """Pairs of which the study excludes one run: that run is not missing."""
    partial: tuple[str, ...] = ()
    """Pairs whose numbers are both over the same part of what they are a mean over."""

    @property
    def mean(self) -> float | None:
        """Mean difference; None without a pair, or where the numbers are too large."""
        spread = _if_finite(_mean_and_std, self.differences) if self.differences else None
        return spread and spread[0]

    @property
    def std(self) -> float | None:
        return _if_finite(sample_std, self.differences)

    @property
    def interval(self) -> Interval | None:
        return _if_finite(lambda values: t_interval(values, "pair"), self.differences)

    @property
    def p_value(self) -> float | None:
        """Two-sided; None without a pair, or where the numbers are too large."""
        return None if self.mean is None else sign_flip_p(self.differences)

    @property
    def least_p(self) -> float:
        """The smallest p-value that so few pairs can give."""
        return min(1.0, 2.0 ** (1 - len(self.differences)))


def _if_finite(
    statistic: Callable[[Sequence[float]], _Statistic | None], values: Sequence[float]
) -> _Statistic | None:
    try:
        return statistic(values)
    except OverflowError:
        return None


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of the sign-flip permutation test of mean 0.

    Over all signs for up to 14 differences, else over 20,000 drawn ones with a fixed seed.
    """
    observed = abs(mean(differences)) - _ROUNDING
    if len(differences) <= _MOST_EXACT:
        signs = product((1, -1), repeat=len(differences))
        flips = [mean(_flipped(differences, each)) for each in signs]
        return sum(abs(flip) >= observed for flip in flips) / len(flips)
    # A fixed seed: the same results give the same p-value.
    rng = random.Random(0)
    extreme = 1  # the observed signs are one of the draws
    for _ in range(_NUM_FLIPS):
        drawn = [1 if rng.getrandbits(1) else -1 for _ in differences]
        extreme += abs(mean(_flipped(differences, drawn))) >= observed
    return extreme / (_NUM_FLIPS + 1)


def _flipped(differences: Sequence[float], signs: Sequence[int]) -> list[float]:
    return [sign * value for sign, value in zip(signs, differences, strict=True)]


def compare(
    sweep: Sweep, counted: Mapping[str, Entry], axis: str, values: tuple[str, str]
) -> list[Comparison]:
    """The two `values` of `axis` over all else that the runs share: by cell, and all together.

    SelectionError where the study has no such axis or value, averages over it, or excludes one run
    of each pair.
    """
    _check_axis(sweep, axis, values)
    cells = _begun_pairs(sweep, counted, axis, values)
    if not cells:
        raise IncompleteError(f"no run with {axis} {values[0]} or {values[1]} has a result yet")
    if not any(None not in runs for of_cell in cells.values() for _, runs in of_cell):
        raise SelectionError(
            f"no run with {axis} {values[0]} has a counterpart with {axis} {values[1]}: the study "
            f"excludes one of each two; compare other values"
        )
    each = {cell: _named(cell, of_cell) for cell, of_cell in cells.items()}
    found = [_comparison(sweep, counted, cell, values, pairs) for cell, pairs in each.items()]
    if len(cells) > 1:
        everything = [pair for pairs in each.values() for pair in pairs]
        found.append(_comparison(sweep, counted, "all", values, everything))
    # A cell of which every pair is excluded compares nothing; it is still named under `all`.
    return [one for one in found if one.pairs or one.missing]


def _begun_pairs(
    sweep: Sweep, counted: Mapping[str, Entry], axis: str, values: tuple[str, str]
) -> dict[str, list[_Pair]]:
    """By cell what is repeated in it, with the runs of both values; None: the study has no such."""
    repeated = {sweep.average_over, *sweep.manifest.repeats}
    pairs: dict[tuple[str, str], dict[str, Run]] = {}
    for run in sweep.runs:
        value = str(run.axes[axis])
        if value in values:
            pairs.setdefault(_shared(sweep, run, axis, repeated), {})[value] = run
    cells: dict[str, list[_Pair]] = {}
    for (cell, repeat), by_value in pairs.items():
        # A pair of which neither run has a result is not begun, and so not missing.
        if any(run.run_id in counted for run in by_value.values()):
            cells.setdefault(cell, []).append((repeat, [by_value.get(v) for v in values]))
    return cells


def _comparison(
    sweep: Sweep,
    counted: Mapping[str, Entry],
    name: str,
    values: tuple[str, str],
    pairs: Sequence[_Pair],
) -> Comparison:
    names, differences, warnings = [], [], []
    missing: list[str] = []
    excluded: list[str] = []
    partial: list[str] = []
    for pair, runs in pairs:
        entries = [None if run is None else counted.get(run.run_id) for run in runs]
        first, second = entries
        if first is None or second is None:
            lacking = [v for v, entry in zip(values, entries, strict=True) if entry is None]
            line = f"{pair}: {' and '.join(lacking)}"
            (excluded if None in runs else missing).append(line)
            continue
        names.append(pair)
        differences.append(second.metrics[sweep.metric] - first.metrics[sweep.metric])
        warnings += _differences(pair, first, second, sweep)
        partial += _shared_part(pair, first, second, sweep)
    if differences and _if_finite(_mean_and_std, differences) is None:
        warnings.append(f"{name}: the numbers are too large for statistics")
    return Comparison(
        name=name,
        pairs=tuple(names),
        differences=tuple(differences),
        missing=tuple(missing),
        warnings=tuple(warnings),
        excluded=tuple(excluded),
        partial=tuple(partial),
    )


def _mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    return mean(values), sample_std(values)


def _named(cell: str, pairs: Sequence[_Pair]) -> list[_Pair]:
    return [(f"{cell} {repeat}".strip(), runs) for repeat, runs in pairs]


def _differences(pair: str, first: Entry, second: Entry, sweep: Sweep) -> list[str]:
    lines = []
    manifest = sweep.manifest
    for trait in (f"details.{name}" for name in manifest.comparability.equal_in_a_pair):
        one, other = (e.traits.get(trait, NOT_RECORDED) for e in (first, second))
        if one != other:
            lines.append(f"{pair}: {trait} differs: {one} and {other}")
    parts = [part_of_entry(entry, sweep.metric, manifest) for entry in (first, second)]
    if parts[0] != parts[1]:
        each = " and ".join(part or "all" for part in parts)
        lines.append(f"{pair}: {sweep.metric} is over {each}")
    return lines + [f"{pair}: {line}" for line in pair_differences(first, second)]


def _shared_part(pair: str, first: Entry, second: Entry, sweep: Sweep) -> list[str]:
    parts = [part_of_entry(entry, sweep.metric, sweep.manifest) for entry in (first, second)]
    is_shared = parts[0] and parts[0] == parts[1]
    return [f"{pair}: {sweep.metric} is over {parts[0]}"] if is_shared else []


def _shared(sweep: Sweep, run: Run, axis: str, repeated: Collection[str]) -> tuple[str, str]:
    """The cell without `axis`, and what is repeated within it."""
    names = [a.name for a in sweep.axes if a.name != axis]
    cell = ",".join(f"{name}={run.axes[name]}" for name in names if name not in repeated)
    return cell or "all", ",".join(f"{n}={run.axes[n]}" for n in names if n in repeated)


def _check_axis(sweep: Sweep, axis: str, values: tuple[str, str]) -> None:
    names = [a.name for a in sweep.axes]
    if axis not in names:
        raise SelectionError(
            f"study {sweep.study!r} has no axis {axis!r}; its axes: {', '.join(names)}"
        )
    if axis == sweep.average_over:
        raise SelectionError(f"cells average over {axis}: compare the values of another axis")
    choices = [str(value) for value in sweep.axis(axis).choices]
    for value in values:
        if value not in choices:
            raise SelectionError(f"axis {axis} has no value {value!r}; it has {', '.join(choices)}")
    if values[0] == values[1]:
        raise SelectionError(f"{values[0]!r} is compared with itself: name two values of {axis}")
