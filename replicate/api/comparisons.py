"""Results as a frame, and two values of an axis compared run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merge.records.sweep import Sweep, Value

if TYPE_CHECKING:
    import pandas as pd

    from merge.results.combine import Merged
    from merge.results.paired import Comparison


def to_pandas(
    source: Merged | Mapping[str, Any] | str | Path | Sequence[str | Path],
) -> pd.DataFrame:
    """A tidy frame with one row a counted run, of what `merge` returns or takes.

    `merge.api.to_pandas` lists its columns.
    """
    from merge.api import to_pandas as frame_of
    from merge.results.combine import Merged

    return frame_of(source.document if isinstance(source, Merged) else source)


def compare(
    *inputs: str | Path, axis: str, values: tuple[Value, Value] | Sequence[Value]
) -> list[Comparison]:
    """Two `values` of `axis` over all else that the runs share: by cell, and all together.

    Differences are the second value minus the first. `inputs` are what `merge` takes. UsageError
    for other than two values, SelectionError for an axis or a value that the study does not have,
    IncompleteError where no run with one of the values has a result.
    """
    from merge.api import counted_entries
    from merge.errors import UsageError
    from merge.results.combine import combine
    from merge.results.inputs import read_inputs
    from merge.results.paired import compare as compare_values
    from orchestrator.config.values import text_of
    from replicate.api.results import paths_of

    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 2:
        raise UsageError(f"compare takes two values of {axis}, not {values!r}")
    texts = [text_of(value) for value in values]
    merged = combine(read_inputs(paths_of(inputs)))
    sweep, counted = counted_entries(merged.document)
    first, second = (planned_value(sweep, axis, text) for text in texts)
    return compare_values(sweep, counted, axis, (first, second))


def planned_value(sweep: Sweep, axis: str, text: str) -> str:
    """The value that a person means by `text`, as a filter takes it: 1e-4 names 0.0001."""
    from orchestrator.config.values import is_named_by

    choices = [value for a in sweep.axes if a.name == axis for value in a.choices]
    # A typing error passes unchanged: `compare` refuses it with the list of values.
    named = (str(value) for value in choices if is_named_by(value, text.strip()))
    return next(named, text.strip())
