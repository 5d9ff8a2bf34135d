"""The Python door: what the verbs do, as functions.

    from replicate import api

    plan = api.plan("demo", where={"shot": 1})
    report = api.run(plan, "outputs/demo")
    merged = api.merge("outputs/demo")
    merged.document["results"]

All of them raise errors of `merge.errors`, each with a message that says what to do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeGuard

from merge.records.records import Result
from merge.records.sweep import Run, Sweep, Value, read_sweep
from merge.results.collect import collect
from merge.results.combine import Merged
from merge.results.conflicts import OnConflict
from merge.results.view import merge_named, rebuild
from merge.storage.paths import SweepPaths
from orchestrator.plan.plan import Plan
from replicate.catalogue import PUBLISHED, find_study

if TYPE_CHECKING:
    from orchestrator.cancel import RequestOutcome
    from orchestrator.doctor.check import Check
    from orchestrator.local.events import RunEvent
    from orchestrator.local.executor import LocalReport, LocalSettings
    from orchestrator.s3.url import BucketTarget
    from orchestrator.servers.control import StopResult
    from orchestrator.studies.study import Study
    from replicate.views.status import SweepStatus

Where = Mapping[str, Value | Sequence[Value]]
"""Axis -> its selected values, or the only one; as in the study, or as text."""

RETRIED_STATES = ("failed", "lost", "cancelled")

_MERGE_PATIENCE_S = 2.0
"""How long a merge between runs waits for others: a suspended host may hold the lock for hours."""


def load_study(
    study: str | Path, *, settings: Mapping[str, Value] | None = None, debug: bool = False
) -> Study:
    """The study of a built-in name or a file. StudyError names every problem at once.

    `settings` are those of `--set`: key -> value or its text, a list as text (`"8,16"`).
    """
    from orchestrator.studies.load import load_study as load

    return load(
        find_study(study),
        settings={key: _text(key, value) for key, value in (settings or {}).items()},
        published_folders=(PUBLISHED,),
        debug=debug,
    )


def plan(  # noqa: PLR0913 (all by keyword)
    study: str | Path | Study,
    *,
    where: Where | None = None,
    settings: Mapping[str, Value] | None = None,
    debug: bool = False,
    shard_by: str | Sequence[str] = (),
    shard: str | None = None,
    num_shards: int | None = None,
    output: str | Path | None = None,
) -> Plan:
    """Expand a study into runs and select some of them; starts and writes nothing.

    `where` selects values of axes; an axis that it does not name stands for the values of its
    table. `shard_by` names axes, or is `"run"` or `"balanced"`; `shard` is `I/N`.
    Durations are taken from the finished runs in `output`, if it is given. SelectionError lists the
    choices.
    """
    from orchestrator.plan.code_version import code_version
    from orchestrator.plan.division import parse_division
    from orchestrator.plan.durations import estimate, measure
    from orchestrator.plan.freeze import make_sweep
    from orchestrator.plan.selection import select

    if isinstance(study, str | Path):
        study = load_study(study, settings=settings, debug=debug)
    sweep = make_sweep(study, code_version(study))
    runs = select(sweep.runs, sweep.axes, _texts(where))
    by = [shard_by] if isinstance(shard_by, str) else shard_by
    division = parse_division(by, shard, num_shards)
    estimates = estimate(runs, measure(Path(output), runs) if output else {})
    all_shards = division.divide(runs, estimates, Path(output) if output else None)
    shards = division.pick(all_shards)
    return Plan(
        sweep=sweep,
        runs=tuple(run for shard in shards for run in shard.runs),
        shards=shards,
        division=division,
        all_shards=all_shards,
        estimates=estimates,
    )


def run(
    plan: Plan,
    output: str | Path,
    settings: LocalSettings | None = None,
    *,
    report: Callable[[RunEvent], None] = lambda _: None,
) -> LocalReport:
    """Train the planned runs on this machine, each into its folder below `output`.

    Merges after completions; skips runs that are done; starts the longest first. `settings`
    defaults to all devices and the user's cache folder. ConfigChangedError where `output` holds
    another plan: nothing is started then.
    """
    from orchestrator.plan.freeze import freeze

    settings = settings or local_settings(plan)
    settings = replace(settings, code=settings.code or plan.sweep.code)
    sweep = freeze(Path(output), plan.sweep)
    _settle(plan, Path(output))
    return _run_here(sweep, plan, Path(output), settings, report)


def _settle(plan: Plan, output: Path) -> None:
    from merge.errors import StorageError
    from orchestrator.plan.shards import settle_shards

    if plan.division.is_balanced and settle_shards(output, plan.all_shards) != plan.all_shards:
        raise StorageError(
            f"{output} holds another division of these runs, made by another server a moment ago: "
            f"give the same command again, it takes that one (in Python: `plan` with `output`)"
        )


def freeze_plan(plan: Plan, output: str | Path) -> Sweep:
    """Write the plan into `output`, for `work`; ConfigChangedError where it holds another one."""
    from orchestrator.plan.freeze import freeze

    return freeze(Path(output), plan.sweep)


def frozen_plan(output: str | Path, run_ids: Sequence[str] | None = None) -> Plan:
    """The plan that lies in `output`, no study file needed; the runs `run_ids`, else the table's.

    IncompleteError where there is none, SelectionError for an id that it does not have.
    """
    from merge.results.collect import refuse_missing_sweep
    from orchestrator.plan.division import Division
    from orchestrator.plan.durations import estimate, measure
    from orchestrator.plan.selection import choose

    folder = Path(output)
    refuse_missing_sweep(folder)
    sweep = read_sweep(SweepPaths(folder).sweep)
    runs = choose(sweep.runs, run_ids)
    estimates = estimate(runs, measure(folder, runs))
    shards = Division().divide(runs, estimates, None)
    return Plan(
        sweep=sweep,
        runs=runs,
        shards=shards,
        division=Division(),
        all_shards=shards,
        estimates=estimates,
    )


def work(
    plan: Plan,
    output: str | Path,
    settings: LocalSettings | None = None,
    *,
    report: Callable[[RunEvent], None] = lambda _: None,
) -> LocalReport:
    """Train the runs of a `frozen_plan` on this machine, as `run` does for a study."""
    from orchestrator.plan.code_version import code_version

    settings = settings or local_settings(plan)
    if settings.source is None:
        settings = replace(settings, code=code_version(plan.sweep.runs[0]))
    return _run_here(plan.sweep, plan, Path(output), settings, report)


def local_settings(
    plan: Plan,
    *,
    devices: str | None = None,
    data_root: str | Path | None = None,
    weights: str | Path | None = None,
    cache_dir: str | Path | None = None,
    grace_s: float = 120.0,
) -> LocalSettings:
    """What `run` may use of this machine; none of it decides numbers.

    `devices` is `0,1`, `cpu` or `cpu:8`; None means all GPUs, else a CPU slot a core. UsageError
    where the devices cannot serve the plan.
    """
    from orchestrator.local.settings import LocalSettings
    from orchestrator.machine.devices import find_devices
    from orchestrator.runs.retries import read_policy

    return LocalSettings(
        devices=find_devices(devices, plan.runs),
        cache_dir=cache_folder(cache_dir),
        data_root=None if data_root is None else Path(data_root).absolute(),
        weights=None if weights is None else Path(weights).absolute(),
        grace_s=grace_s,
        retries=read_policy(plan.sweep.retries),
        code=plan.sweep.code,
    )


def share_gpus(
    plan: Plan, output: str | Path, settings: LocalSettings, runs_per_gpu: int
) -> tuple[LocalSettings, str]:
    """`settings` with several runs on one GPU, and in words how they fit.

    UsageError, with the figures, where the GPUs' free memory is too little for that.
    """
    from orchestrator.machine.gpu_memory import check_runs_fit

    folder = Path(output)
    results = tuple(read_results(folder).values()) if SweepPaths(folder).sweep.exists() else ()
    words = check_runs_fit(settings.devices, plan.runs, runs_per_gpu, results)
    return replace(settings, runs_per_device=runs_per_gpu), words


def cache_folder(named: str | Path | None) -> Path:
    """The folder for derived data: the one that is named, else the user's."""
    if named is not None:
        return Path(named).absolute()
    if from_environment := os.environ.get("PAPERGRID_CACHE_DIR"):
        return Path(from_environment).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "papergrid"


def runs_of(
    output: str | Path,
    where: Where | None = None,
    run_ids: Sequence[str] | None = None,
) -> tuple[Run, ...]:
    """The runs planned in `output`: those of `run_ids`, else those that `where` selects, else all.

    IncompleteError where there is no plan, SelectionError lists the choices.
    """
    from merge.errors import UsageError
    from merge.results.collect import refuse_missing_sweep
    from orchestrator.config.values import text_of
    from orchestrator.plan.selection import choose, select

    refuse_missing_sweep(Path(output))
    sweep = read_sweep(SweepPaths(Path(output)).sweep)
    if run_ids and where:
        raise UsageError("name runs with --run or by filters, not by both")
    if run_ids:
        return choose(sweep.runs, run_ids)
    everything = {axis.name: [text_of(value) for value in axis.choices] for axis in sweep.axes}
    return select(sweep.runs, sweep.axes, {**everything, **_texts(where)})


def cancel(
    output: str | Path, runs: Sequence[Run], *, is_dry: bool = False
) -> tuple[tuple[RequestOutcome, ...], list[str]]:
    """Have `runs` stopped wherever they run and started nowhere; what that meant for each.

    Also what the schedulers told that have jobs of them. `is_dry` changes nothing. UsageError where
    workers on servers share the runs through a bucket, not this folder.
    """
    from orchestrator.cancel import cancel_everywhere, cancel_runs
    from orchestrator.runs.states import State
    from orchestrator.servers.workers import refuse_cancel_across_folders

    refuse_cancel_across_folders(Path(output))
    wished = cancel_runs(Path(output), runs, now=time.time(), is_dry=is_dry)
    # Those of an earlier call too: a scheduler may not have answered then.
    unwanted = [entry.run_id for entry in wished if entry.is_asked or entry.was == State.CANCELLED]
    return wished, [] if is_dry or not unwanted else cancel_everywhere(Path(output), unwanted)


def stop_workers(
    output: str | Path,
    names: Sequence[str] | None = None,
    *,
    kill: bool = False,
    is_dry: bool = False,
) -> list[StopResult]:
    """Stop the workers that `submit --servers` started on `names` (None: all), over ssh.

    IncompleteError where there is no plan, UsageError for a server that no submission has.
    """
    from merge.results.collect import refuse_missing_sweep
    from orchestrator.servers.control import stop_workers as stop

    refuse_missing_sweep(Path(output))
    return stop(Path(output), names, kill=kill, is_dry=is_dry)


def retry(
    output: str | Path,
    runs: Sequence[Run],
    states: Sequence[str] = RETRIED_STATES,
    *,
    is_dry: bool = False,
) -> tuple[RequestOutcome, ...]:
    """Mark those of `runs` that are in `states` as to be run again; starts nothing itself.

    UsageError for a state in which a run cannot be retried.
    """
    from merge.errors import UsageError
    from orchestrator.cancel import retry_runs

    if unknown := [state for state in states if state not in RETRIED_STATES]:
        raise UsageError(f"no state {unknown[0]!r} to retry; there are {', '.join(RETRIED_STATES)}")
    return retry_runs(Path(output), runs, states, now=time.time(), is_dry=is_dry)


def merge(
    *inputs: str | Path,
    into: str | Path | None = None,
    on_conflict: OnConflict = "error",
    strict: bool = False,
) -> Merged:
    """Rebuild the merged view of one output folder, or merge several inputs into the file `into`.

    Inputs are output folders, run folders, merged files and files of the original script.
    """
    merged, _ = merge_named(
        [Path(path) for path in inputs],
        None if into is None else Path(into),
        on_conflict=on_conflict,
        is_strict=strict,
    )
    return merged


def status(output: str | Path, claims: BucketTarget | None = None) -> SweepStatus:
    """The merged view and the state of every run, as the files tell now. Leaves nothing written.

    With `claims` also what that place in a bucket tells of runs that hosts share through it.
    """
    from replicate.views.status import read_status

    return read_status(Path(output), time.time(), claims)


def doctor(
    output: str | Path,
    *,
    only: Literal["folder", "machine"] | None = None,
    waits_for_peer: bool = False,
    patience_s: float = 300.0,
    data_root: Path | None = None,
    weights: Path | None = None,
) -> list[Check]:
    """Prove between two processes what holds in `output`, and look at what this machine has.

    With `waits_for_peer` the second process is another host's: call it on both. StorageError where
    nothing can be written, RecordError where a plan lies there that is unreadable.
    """
    from orchestrator.doctor.folder import examine_folder
    from orchestrator.doctor.machine import examine_machine, needs_of

    folder = Path(output)
    checks: list[Check] = []
    if only != "machine":
        checks += examine_folder(folder, waits_for_peer=waits_for_peer, patience_s=patience_s)
    if only != "folder":
        checks += examine_machine(needs_of(folder, data_root=data_root, weights=weights))
    return checks


def report(output: str | Path, *, forms: Sequence[str] = ("md", "html")) -> dict[str, Path]:
    """Merge, and write the report in each of `forms` (md, html, tex, csv); form -> its path."""
    from replicate.report.gather import read_report, write_report

    folder = Path(output)
    return write_report(folder, read_report(folder, rebuild(folder)), forms)


def read_results(output: str | Path) -> dict[str, Result]:
    """Every valid result in an output folder, by run id. Writes nothing."""
    return collect(Path(output)).results


def _texts(where: Where | None) -> dict[str, list[str]]:
    # Text is a single value here, not the sequence of its letters.
    return {
        axis: [_text(axis, value) for value in (given if _is_many(given) else [given])]
        for axis, given in (where or {}).items()
    }


def _is_many(given: object) -> TypeGuard[Iterable[object]]:
    return isinstance(given, Iterable) and not isinstance(given, str)


def _text(name: str, value: object) -> str:
    from merge.errors import UsageError
    from orchestrator.config.values import is_scalar, text_of

    if is_scalar(value):
        return text_of(value)
    # Whole numbers of numpy and pandas are no `int`.
    if isinstance(value, Integral):
        return str(int(value))
    raise UsageError(f"{name}: {value!r} is not a single value; write a list's values as text")


def _run_here(
    sweep: Sweep,
    plan: Plan,
    folder: Path,
    settings: LocalSettings,
    report: Callable[[RunEvent], None],
) -> LocalReport:
    from orchestrator.local.events import Notice
    from orchestrator.local.executor import run_local
    from orchestrator.plan.code_version import code_differs
    from orchestrator.plan.durations import longest_first

    for line in code_differs(sweep.code, settings.code):
        report(Notice(message=f"the code has changed since {folder} was planned: {line}"))
    then = settings.on_completion

    def on_completion(runs: Sequence[Run]) -> None:
        try:
            rebuild(folder, patience_s=_MERGE_PATIENCE_S)
        finally:
            then(runs)

    settings = replace(settings, on_completion=on_completion)
    return run_local(sweep, longest_first(plan.runs, plan.estimates), folder, settings, report)
