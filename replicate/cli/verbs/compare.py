"""`replicate compare OUT --axis method --values a,b`: two values of an axis, run by run."""

from __future__ import annotations

import argparse
import json
import sys
from math import isfinite
from pathlib import Path
from typing import Any

from merge.api import counted_entries
from merge.errors import UsageError
from merge.foreign_text import one_line
from merge.records.sweep import Sweep
from merge.results.combine import combine
from merge.results.inputs import read_inputs
from merge.results.outcome import left_out
from merge.results.paired import Comparison, compare
from replicate.api.comparisons import planned_value
from replicate.views.columns import align
from replicate.views.table import MISSING, Format, format_of, some


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="OUT", help="what `replicate merge` takes"
    )
    parser.add_argument("--axis", required=True, help="the axis whose two values are compared")
    parser.add_argument("--values", required=True, metavar="A,B", help="the differences are B - A")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """0 all pairs are there and comparable, 3 a pair lacks a run.

    1 some are not comparable, or something could not be counted, as in `replicate merge`.
    """
    first, comma, second = arguments.values.partition(",")
    if not comma or not first or not second or "," in second:
        raise UsageError(f"--values {arguments.values!r} is not of the form A,B")
    merged = combine(read_inputs(arguments.inputs))
    sweep, counted = counted_entries(merged.document)
    values = (
        planned_value(sweep, arguments.axis, first),
        planned_value(sweep, arguments.axis, second),
    )
    found = compare(sweep, counted, arguments.axis, values)
    if arguments.json:
        documents = [_document(comparison, sweep, values) for comparison in found]
        print(json.dumps(documents, indent=1, ensure_ascii=False))
    else:
        print(
            f"{sweep.metric}: {arguments.axis} {values[1]} minus {values[0]}; "
            f"{_better_side(sweep)} 0 where {values[1]} is better"
        )
        print("\n".join(_table(sweep, found, values)))
    for line in (*left_out(merged), *_remarks(found)):
        print(one_line(line), file=sys.stderr)
    if not merged.is_clean or any(comparison.warnings for comparison in found):
        return 1
    return 3 if any(comparison.missing for comparison in found) else 0


def _table(sweep: Sweep, found: list[Comparison], values: tuple[str, str]) -> list[str]:
    form = format_of(sweep)
    header = [
        "",
        "pairs",
        f"mean{form.unit}",
        "better",
        "std",
        "95% interval (t)",
        "p (sign flip)",
    ]
    return align([header, *(_row(comparison, form, sweep, values) for comparison in found)])


def _better_side(sweep: Sweep) -> str:
    return "above" if sweep.goal == "max" else "below"


def _better(comparison: Comparison, sweep: Sweep, values: tuple[str, str]) -> str | None:
    """Which of the two values has the better mean, by the metric's goal; None for neither."""
    mean = comparison.mean
    if not mean:
        return None
    return values[(mean > 0) == (sweep.goal == "max")]


def _row(comparison: Comparison, form: Format, sweep: Sweep, values: tuple[str, str]) -> list[str]:
    total = len(comparison.pairs) + len(comparison.missing)
    mean, std, interval = comparison.mean, comparison.std, comparison.interval
    return [
        comparison.name,
        f"{len(comparison.pairs)}/{total}",
        MISSING if mean is None else form.difference(mean),
        _better(comparison, sweep, values) or MISSING,
        MISSING if std is None else form.value(std),
        MISSING
        if interval is None
        else f"{form.difference(interval.low)} to {form.difference(interval.high)}",
        MISSING if comparison.p_value is None else f"{comparison.p_value:.4g}",
    ]


def _remarks(found: list[Comparison]) -> list[str]:
    """What a reader must know: missing pairs, pairs tested on different things, too few pairs."""
    lines = [f"missing: {line}" for c in found for line in c.missing]
    lines += [f"not comparable: {line}" for c in found for line in c.warnings]
    lines += [f"not whole: {line}" for c in found for line in c.partial]
    excluded = list(dict.fromkeys(line for c in found for line in c.excluded))
    if excluded:
        lines.append(f"excluded by the study, so no pair: {some(excluded)}")
    # With fewer than six pairs this test can never give p < 0.05 (2**(1 - 5) = 0.0625).
    few = [c for c in found if 0 < len(c.pairs) < 6]
    lines += [
        f"note: {c.name}: with {len(c.pairs)} pairs p cannot be below {c.least_p:.4g}" for c in few
    ]
    return list(dict.fromkeys(lines))


def _document(comparison: Comparison, sweep: Sweep, values: tuple[str, str]) -> dict[str, Any]:
    interval = comparison.interval
    return {
        "name": comparison.name,
        "n": len(comparison.pairs),
        "pairs": {
            # Infinity is no JSON: the difference of two very large numbers.
            pair: difference if isfinite(difference) else None
            for pair, difference in zip(comparison.pairs, comparison.differences, strict=True)
        },
        "goal": sweep.goal,
        "better": _better(comparison, sweep, values),
        "missing": list(comparison.missing),
        "excluded": list(comparison.excluded),
        "not_whole": list(comparison.partial),
        "complete": not comparison.missing,
        "mean_difference": comparison.mean,
        "std": comparison.std,
        "ci": interval and interval.to_json(),
        "p_sign_flip": comparison.p_value,
        "least_p": comparison.least_p,
        "not_comparable": list(comparison.warnings),
    }
