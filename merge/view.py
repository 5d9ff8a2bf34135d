"""The merged view on disk: rebuilt from the run folders at any time, by many at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from merge.collect import collect, refuse_missing_sweep
from merge.combine import Merged, combine
from merge.errors import UsageError
from merge.exclusion import LOCK_PATIENCE_S, exclusively, result_files
from merge.files import write_json
from merge.paths import SweepPaths
from merge.sweep import read_sweep


def rebuild(output: Path, *, patience_s: float = LOCK_PATIENCE_S) -> Merged:
    """Merge the results in `output` into its `replication_results.json`; many may do so at once.

    Each writer reads after the writer before it, or writes again (`merge.exclusion`): the view
    never loses a result that an earlier view had. StorageError where another merge holds it for
    longer than `patience_s`.
    """
    paths = SweepPaths(output)
    refuse_missing_sweep(output)
    sweep = read_sweep(paths.sweep)
    return exclusively(
        paths.merge_lock,
        lambda: _write_view(output),
        lambda: result_files(output, sweep),
        patience_s=patience_s,
    )


def _write_view(output: Path) -> Merged:
    merged = combine({str(output): collect(output)})
    write_json(SweepPaths(output).results, merged.document)
    return merged


def merge_outputs(outputs: Sequence[Path], into: Path) -> Merged:
    """Merge several output folders of one sweep into the file `into` (S3-9).

    UsageError for a folder named twice, ConfigChangedError where their plans differ.
    """
    resolved = [output.resolve() for output in outputs]
    if len(set(resolved)) != len(resolved):
        raise UsageError("an output folder is named twice: name each folder once")
    merged = combine({str(output): collect(output) for output in outputs})
    write_json(into, merged.document)
    return merged
