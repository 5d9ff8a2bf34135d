"""Merged view, report and status of a sweep; and the checks of `doctor`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from merge.records.result import Result
    from merge.results.combine import Merged
    from merge.results.conflicts import OnConflict
    from orchestrator.doctor.check import Check
    from orchestrator.s3.url import BucketTarget
    from orchestrator.status import SweepStatus


def merge(
    *inputs: str | Path,
    into: str | Path | None = None,
    on_conflict: OnConflict = "error",
    strict: bool = False,
) -> Merged:
    """Rebuild the merged view of one output folder, or merge several inputs into the file `into`.

    Inputs are output folders, run folders, merged files and files of the original script.
    """
    from merge.results.view import merge_named

    merged, _ = merge_named(
        paths_of(inputs),
        None if into is None else Path(into),
        on_conflict=on_conflict,
        is_strict=strict,
    )
    return merged


def paths_of(inputs: Sequence[str | Path]) -> list[Path]:
    """The inputs of a function that takes any number of paths. UsageError for none, or a list."""
    from merge.errors import UsageError

    if not inputs:
        raise UsageError("name at least one output folder or merged file")
    for path in inputs:
        if not isinstance(path, str | os.PathLike):
            raise UsageError(f"{path!r} is no path: give paths one by one, ('a', 'b')")
    return [Path(path) for path in inputs]


def report(output: str | Path, *, forms: Sequence[str] = ("md", "html")) -> dict[str, Path]:
    """Merge, and write the report in each of `forms` (md, html, tex, csv); form -> its path."""
    return merge_and_report(output, forms=forms)[1]


def merge_and_report(
    output: str | Path, *, forms: Sequence[str] = ("md", "html")
) -> tuple[Merged, dict[str, Path]]:
    """`merge` and `report` of one output folder, with each result read once for both."""
    from merge.results.view import rebuild_with_results
    from replicate.report.gather import read_report, write_report

    folder = Path(output)
    merged, results = rebuild_with_results(folder)
    return merged, write_report(folder, read_report(folder, merged, results), forms)


def read_results(output: str | Path) -> dict[str, Result]:
    """Every valid result in an output folder, by run id. Writes nothing."""
    from merge.results.collect import collect

    return collect(Path(output)).results


def status(
    output: str | Path,
    claims: str | BucketTarget | None = None,
    *,
    asks_servers: bool = False,
    has_sources: bool = True,
) -> SweepStatus:
    """The state of a sweep as its files say now; writes nothing.

    With `claims` also the state of the runs that hosts share through that place in a bucket. With
    `asks_servers` each server of a submission is asked over ssh whether its worker is alive.
    Without `has_sources` the merged document lacks `plan` and `runs`: a large sweep is read faster.
    """
    from orchestrator.status import read_status
    from replicate.api.training import as_target

    target = as_target(claims)
    return read_status(
        Path(output), time.time(), target, asks_servers=asks_servers, has_sources=has_sources
    )


def doctor(  # noqa: PLR0913 (all but one by keyword)
    output: str | Path,
    *,
    only: Literal["folder", "machine"] | None = None,
    waits_for_peer: bool = False,
    patience_s: float = 300.0,
    data_root: Path | None = None,
    weights: Path | None = None,
    cache_dir: Path | None = None,
) -> list[Check]:
    """Test between two processes what the folder `output` guarantees, and what this machine has.

    Where `output` holds a plan, its unfinished runs are checked as before a start.

    With `waits_for_peer` the second process is one of another host: call it on both. StorageError
    where nothing can be written, RecordError where the plan in the folder is unreadable.
    """
    from orchestrator.doctor.folder import examine_folder
    from orchestrator.doctor.machine import examine_machine

    folder = Path(output)
    checks: list[Check] = []
    if only != "machine":
        checks += examine_folder(folder, waits_for_peer=waits_for_peer, patience_s=patience_s)
    if only != "folder":
        checks += examine_machine(folder, data_root=data_root, weights=weights)
        checks += _checks_of_runs(folder, data_root, weights, cache_dir)
    return checks


def _checks_of_runs(
    folder: Path, data_root: Path | None, weights: Path | None, cache_dir: Path | None
) -> list[Check]:
    """What the planned runs lack on this machine; none where nothing is planned."""
    from merge.storage.paths import SweepPaths
    from orchestrator.doctor.check import Check
    from replicate.api.plans import frozen_plan
    from replicate.api.training import find_problems

    if not SweepPaths(folder).sweep.exists():
        return []
    plan = frozen_plan(folder)
    found = find_problems(plan, folder, data_root=data_root, weights=weights, cache_dir=cache_dir)
    checks = [Check(f"runs: {one.about}", "refused", one.message, one.fix) for one in found]
    finding = "the packages, weights and data that they need are here"
    return checks or [Check("runs", "ok", finding, numbers={"runs": len(plan.runs)})]
