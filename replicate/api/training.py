"""Training on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import UsageError
from orchestrator.local.limits import GRACE_S, GpusInUse
from orchestrator.sync.options import SYNC_PATIENCE_S, SyncOptions

if TYPE_CHECKING:
    from orchestrator.local.events import Listener
    from orchestrator.local.settings import LocalSettings
    from orchestrator.plan.plan import Plan
    from orchestrator.preflight import Problem
    from orchestrator.s3.url import BucketTarget, Encryption
    from orchestrator.training import TrainingReport

_MOST_REQUESTS = 64


def run(  # noqa: PLR0913 (all but three by keyword)
    plan: Plan,
    output: str | Path,
    settings: LocalSettings | None = None,
    *,
    listeners: Sequence[Listener] = (),
    sync: str | BucketTarget | None = None,
    claims: str | BucketTarget | None = None,
    sync_patience_s: float = SYNC_PATIENCE_S,
    progress: bool | None = None,
) -> TrainingReport:
    """Train the planned runs on this machine, each into its folder below `output`.

    Merges after completions; skips runs that are done; starts the longest first. `settings`
    defaults to all devices and the user's cache folder. Each of `listeners` is called with every
    event (`orchestrator.local.events`) from this thread; its exceptions are reported to all
    of them and stop nothing.

    `sync` is a place in a bucket, `s3://bucket/prefix` or `bucket(...)`, to which finished runs are
    sent beside the training. `claims` is such a place through which hosts that share no folder
    share the runs; it implies `sync`. At the end it keeps trying for `sync_patience_s` seconds
    while nothing can be sent; `unsent` of the report has the rest.

    `progress` says whether each run's start, progress and end are shown: None shows them on a
    terminal (stderr) and in a notebook.

    ConfigChangedError where it changes a planned run of `output` or the bucket, BucketError where
    the bucket refuses: nothing is started then.
    """
    from orchestrator.training import train

    _refuse_name(plan)
    settings = _watching_code(plan, settings or local_settings(plan))
    options = _sync_options(sync, claims, sync_patience_s)
    with _shown(plan, progress) as views:
        return train(plan, Path(output), settings, listeners=[*listeners, *views], sync=options)


def work(  # noqa: PLR0913 (all but three by keyword)
    plan: Plan,
    output: str | Path,
    settings: LocalSettings | None = None,
    *,
    listeners: Sequence[Listener] = (),
    sync: str | BucketTarget | None = None,
    claims: str | BucketTarget | None = None,
    sync_patience_s: float = SYNC_PATIENCE_S,
    progress: bool | None = None,
) -> TrainingReport:
    """Train the runs of a `frozen_plan` on this machine, as `run` does for a study."""
    from orchestrator.training import train_frozen

    _refuse_name(plan)
    settings = _watching_code(plan, settings or local_settings(plan))
    options = _sync_options(sync, claims, sync_patience_s)
    with _shown(plan, progress) as views:
        return train_frozen(
            plan, Path(output), settings, listeners=[*listeners, *views], sync=options
        )


def _refuse_name(plan: object) -> None:
    """UsageError for a study's name where its plan is wanted."""
    if isinstance(plan, str | Path):
        raise UsageError(f"{str(plan)!r} is no plan: give what api.plan({str(plan)!r}) returns")


def _shown(plan: Plan, wanted: bool | None) -> AbstractContextManager[list[Listener]]:
    from replicate.views.live import shown_by_default
    from replicate.views.table import format_of

    form = format_of(plan.sweep)
    metric = plan.sweep.metric
    return shown_by_default(len(plan.runs), lambda v: f"{metric} {form.value(v)}", wanted)


def _watching_code(plan: Plan, settings: LocalSettings) -> LocalSettings:
    """`settings` that know the version of the code at any time, also while a person edits it."""
    from orchestrator.plan.code_watch import CodeWatch

    # A snapshot does not change. A plan may be hours old in a notebook, or of another host.
    if settings.source is not None:
        return settings
    watch = CodeWatch(plan.sweep, settings.cwd, settings.clock)
    return replace(settings, code=watch(), watch_code=watch)


def find_problems(
    plan: Plan,
    output: str | Path,
    *,
    data_root: str | Path | None = None,
    weights: str | Path | None = None,
    cache_dir: str | Path | None = None,
    python: str = sys.executable,
) -> list[Problem]:
    """What would stop the runs of `plan` that have no result in `output` yet; starts none.

    Packages, weights, data, programs of commands: as `python`, the Python that trains,
    finds them on this machine. The first time it may index a data set into the cache folder.
    """
    from merge.storage.paths import SweepPaths
    from orchestrator.preflight import Places
    from orchestrator.preflight import find_problems as find

    paths = SweepPaths(Path(output))
    # Finished runs need no data: the table of a finished sweep can be shown on any machine.
    to_do = [run for run in plan.runs if not paths.run(run.path).has_result()]
    places = Places(
        data_root=None if data_root is None else Path(data_root).absolute(),
        weights=None if weights is None else Path(weights).absolute(),
        cache_dir=cache_folder(cache_dir),
        python=python,
    )
    return find(to_do, places)


def local_settings(  # noqa: PLR0913 (all but one by keyword)
    plan: Plan,
    *,
    devices: str | None = None,
    data_root: str | Path | None = None,
    weights: str | Path | None = None,
    cache_dir: str | Path | None = None,
    grace_s: float = GRACE_S,
    gpus_in_use: GpusInUse | None = None,
) -> LocalSettings:
    """What `run` may use of this machine; none of it changes a number.

    `devices` is `0,1`, `cpu` or `cpu:8`; None means all GPUs, else a CPU slot a core. GPUs that
    other processes use are waited for, unless `gpus_in_use` says `skip` or `use`; a SLURM job uses
    what it was given. UsageError where the devices cannot serve the plan, GpusInUseError where all
    are to be skipped.
    """
    from orchestrator.local.settings import LocalSettings
    from orchestrator.machine.devices import check_fit, find_devices
    from orchestrator.machine.gpus_in_use import free_gpus
    from orchestrator.runs.retries import read_policy

    policy = gpus_in_use or ("use" if "SLURM_JOB_ID" in os.environ else "wait")
    found = find_devices(devices, plan.runs)
    if policy == "skip":
        found = free_gpus(found)
        check_fit(found, plan.runs)
    return LocalSettings(
        devices=found,
        waits_for_gpus=policy == "wait",
        cache_dir=cache_folder(cache_dir),
        # Absolute: trainers start in another folder.
        data_root=None if data_root is None else Path(data_root).absolute(),
        weights=None if weights is None else Path(weights).absolute(),
        grace_s=grace_s,
        retries=read_policy(plan.sweep.retries),
        code=plan.sweep.code,
    )


def share_gpus(
    plan: Plan, output: str | Path, settings: LocalSettings, runs_per_gpu: int
) -> tuple[LocalSettings, str]:
    """`settings` with several runs on one GPU, and a text that says how they fit.

    UsageError, with the figures, where the GPUs have too little free memory for that.
    """
    from merge.storage.paths import SweepPaths
    from orchestrator.machine.gpu_memory import check_runs_fit
    from replicate.api.results import read_results

    folder = Path(output)
    # Finished runs say how much GPU memory one takes; a new folder has none.
    results = tuple(read_results(folder).values()) if SweepPaths(folder).sweep.exists() else ()
    text = check_runs_fit(settings.devices, plan.runs, runs_per_gpu, results)
    return replace(settings, runs_per_device=runs_per_gpu), text


def cache_folder(named: str | Path | None) -> Path:
    """The folder for derived data: `named`, else the user's."""
    from orchestrator.machine.cache_folder import cache_folder

    return cache_folder(named)


def bucket(  # noqa: PLR0913 (all by keyword)
    url: str,
    *,
    endpoint_url: str | None = None,
    profile: str | None = None,
    region: str | None = None,
    encryption: Encryption | None = None,
    kms_key_id: str | None = None,
    max_concurrency: int | None = None,
    max_bandwidth: str | None = None,
) -> BucketTarget:
    """A place in a bucket, `s3://bucket/prefix`, and how it is accessed.

    Credentials come from the environment or from AWS's own files, never from here.
    `max_bandwidth` is such as `50MB/s`, for all transfers together. UsageError for invalid values.
    """
    from orchestrator.s3.url import BucketTarget, parse_endpoint, parse_rate, parse_url

    if kms_key_id and encryption != "aws:kms":
        raise UsageError("--sse-kms-key-id names a key of KMS: give --sse aws:kms with it")
    if max_concurrency is not None and not 1 <= max_concurrency <= _MOST_REQUESTS:
        raise UsageError(f"--max-concurrency takes 1 to {_MOST_REQUESTS}")
    return BucketTarget(
        url=parse_url(url),
        endpoint_url=None if endpoint_url is None else parse_endpoint(endpoint_url),
        profile=profile,
        region=region,
        encryption=encryption,
        kms_key_id=kms_key_id,
        max_concurrency=max_concurrency or BucketTarget.DEFAULT_CONCURRENCY,
        max_bytes_per_s=None if max_bandwidth is None else parse_rate(max_bandwidth),
    )


def as_target(place: str | BucketTarget | None) -> BucketTarget | None:
    """`place` as a target: a text is an URL with AWS's defaults."""
    return bucket(place) if isinstance(place, str) else place


def _sync_options(
    sync: str | BucketTarget | None, claims: str | BucketTarget | None, patience_s: float
) -> SyncOptions | None:
    there, shared = as_target(sync), as_target(claims)
    # Claims imply sync to the same place: other hosts fetch checkpoints and results from there.
    if there and shared and there != shared:
        raise UsageError(
            f"claims ({shared.url}) and sync ({there.url}) name two places: give one of them"
        )
    target = shared or there
    if target is None:
        return None
    return SyncOptions(target=target, has_claims=shared is not None, patience_s=patience_s)
