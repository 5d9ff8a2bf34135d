"""The Python API of merging: folders into one document, a document into a pandas frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merge.records.sweep import Run, Sweep
from merge.results.combine import combine
from merge.results.comparability import deviations_text
from merge.results.conflicts import OnConflict
from merge.results.documents import contribution_of_view
from merge.results.entries import PARTS, Entry
from merge.results.inputs import read_inputs
from merge.results.legacy import Unit, sweep_of_legacy
from merge.results.view import merge_inputs, refuse_flags

if TYPE_CHECKING:
    import pandas as pd


def merge_results(
    output_dirs: str | Path | Iterable[str | Path],
    into: str | Path | None = None,
    *,
    on_conflict: OnConflict = "error",
    strict: bool = False,
    legacy_unit: Unit | None = None,
) -> dict[str, Any]:
    """The merged document of output folders, run folders, merged and legacy files.

    It is also written to the file `into`, if that is given. The order of `output_dirs` does not
    matter. Results that are not counted are listed under `quarantined`, `aside` and `conflicts`.
    ConfigChangedError where plans differ, IncomparableError for flags where `strict`,
    UsageError where an input does not exist, RecordError where no input can be used.
    """
    each = [output_dirs] if isinstance(output_dirs, str | Path) else list(output_dirs)
    paths = [Path(path) for path in each]
    if into is not None:
        return merge_inputs(
            paths, Path(into), on_conflict=on_conflict, is_strict=strict, legacy_unit=legacy_unit
        ).document
    merged = combine(read_inputs(paths, legacy_unit), on_conflict=on_conflict)
    if strict:
        refuse_flags(merged)
    return merged.document


def to_pandas(
    source: Mapping[str, Any] | str | Path | Sequence[str | Path],
) -> pd.DataFrame:
    """A tidy frame of a merged document, or of what `merge_results` takes: one row a counted run.

    Columns: run_id, cell, the axes, the metrics (as stored: percent is a fraction), attempt, token,
    config_hash, started and finished of its last attempt (Unix time, seconds), seconds (of all
    attempts), deviations (text), is_legacy, counted_<metric> (`3/5` where that metric is a mean
    over a part of the classes, for example),
    and what the trainer recorded (train_seconds, peak_memory_mb_host, details.weights...). Runs
    without a result and runs in an undecided conflict have no row.
    """
    import pandas as pd

    document = source if isinstance(source, Mapping) else merge_results(source)
    sweep, counted = counted_entries(document)
    runs = [run for run in sweep.runs if run.run_id in counted]
    rows = [_row(run, counted[run.run_id]) for run in runs]
    # A union of keys, since results may record different details. Without any row the frame still
    # has the two columns that callers select by.
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["run_id", "cell"]
    return pd.DataFrame({name: [row.get(name) for row in rows] for name in columns})


def counted_entries(document: Mapping[str, Any]) -> tuple[Sweep, dict[str, Entry]]:
    """The plan of a merged document, and the entries that it counts by run id."""
    # Through the same reader as a merged file: a document from a caller may be as damaged as one
    # from a disk.
    part = contribution_of_view(Path("merged document"), document)
    sweep = part.sweep or sweep_of_legacy(part.legacy)
    legacy: dict[tuple[str, str], list[Entry]] = {}
    for entry in part.legacy:
        legacy.setdefault((entry.cell, entry.averaged), []).append(entry.as_entry(""))
    counted: dict[str, Entry] = {}
    for run in sweep.runs:
        averaged = str(run.axes[sweep.average_over])
        metrics = document["results"].get(run.cell, {}).get(averaged)
        # The document decides which result counts; its entries are only looked up here, so that the
        # frame cannot disagree with the table.
        if metrics is not None:
            candidates = [*part.entries.get(run.run_id, ()), *legacy.get((run.cell, averaged), ())]
            counted[run.run_id] = _counted(candidates, metrics)
    return sweep, counted


def _counted(candidates: Sequence[Entry], metrics: Mapping[str, float]) -> Entry:
    # A cell keeps metrics without a token. Several results may have equal metrics: prefer one that
    # has a configuration and a time.
    alike = [entry for entry in candidates if entry.metrics == metrics]
    return min(alike, key=lambda entry: (entry.is_legacy, entry.order)) if alike[1:] else alike[0]


def _row(run: Run, entry: Entry) -> dict[str, Any]:
    seconds = entry.measured.get("seconds", {})
    memory = entry.measured.get("peak_memory_mb", {})
    row: dict[str, Any] = {
        "run_id": run.run_id,
        "cell": run.cell,
        **run.axes,
        **entry.metrics,
        "is_legacy": entry.is_legacy,
        "deviations": deviations_text(entry.deviations) if entry.deviations else "",
    }
    for metric, part in entry.measured.get(PARTS, {}).items():
        row[f"counted_{metric}"] = f"{part['counted']}/{part['of']}"
    if not entry.is_legacy:
        row |= {
            "attempt": entry.attempt,
            "token": entry.token,
            "config_hash": entry.config_hash,
            "started": entry.started,
            "finished": entry.finished,
            "seconds": entry.seconds,
        }
    return {
        **row,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        **{f"peak_memory_mb_{name}": value for name, value in memory.items()},
        **{name: _cell_value(value) for name, value in entry.traits.items()},
    }


def _cell_value(value: object) -> object:
    # A list or a mapping becomes text: pandas can neither group nor sort by one.
    return value if isinstance(value, str | int | float | bool) else str(value)
