"""The result files of an output folder, as the file server knows them now."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from merge.errors import RecordError, StorageError
from merge.records.sweep import Sweep
from merge.storage.nfs import disturb, fresh_names
from merge.storage.paths import RunPaths, SweepPaths


def result_files(output: Path, sweep: Sweep) -> frozenset[str]:
    """Paths of all results in `output`, also those kept aside, as the file server knows them now.

    A file is written into every folder that shows no result, and removed, because an NFS client may
    miss a new one there for long (`disturb`).
    """
    folders = [SweepPaths(output).run(run.path).root for run in sweep.runs]
    found = {folder: _results_in(folder) for folder in folders}
    doubtful = [folder for folder, names in found.items() if not names]
    # The folder above, too: the run's own folder may be as new as its result.
    for folder in {folder.parent for folder in doubtful} | set(doubtful):
        # A folder that this user may not write to must not stop the merge of all other runs.
        with suppress(StorageError):
            disturb(folder)
    found |= {folder: _results_in(folder) for folder in doubtful}
    return frozenset(str(folder / name) for folder, names in found.items() for name in names)


def _results_in(folder: Path) -> set[str]:
    stem = RunPaths(folder).result.stem
    try:
        return {name for name in fresh_names(folder) if name.startswith(stem)}
    except RecordError:
        return set()
