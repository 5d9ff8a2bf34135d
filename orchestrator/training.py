"""The one path that trains a plan on this machine, whether a command or a notebook asks for it.

In order: ask the bucket (nothing is written before it agrees), put the plan there where it has the
claims, freeze the plan in the folder, train, merge after completions, send to the bucket. Merging
and sending are listeners: they cannot stop a training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import BucketUnavailableError, StorageError
from merge.records.sweep import Sweep
from merge.results.view import rebuild
from orchestrator.local.events import Listener, LocalReport, RunEvent, RunsCompleted
from orchestrator.local.executor import run_local
from orchestrator.local.listeners import Listeners
from orchestrator.local.settings import LocalSettings
from orchestrator.plan.code_version import code_differs
from orchestrator.plan.durations import longest_first
from orchestrator.plan.freeze import existing_plan, freeze
from orchestrator.plan.plan import Plan
from orchestrator.plan.shards import settle_shards
from orchestrator.sync.options import SyncOptions

if TYPE_CHECKING:
    from orchestrator.bucket_claims.claims import FolderAndBucketClaims
    from orchestrator.sync.backlog import SyncOutcome

_MERGE_PATIENCE_S = 2.0
"""How long a merge between runs waits for the lock: a suspended host may hold it for hours."""
_SYNC_PATIENCE_WHEN_STOPPED_S = 10.0
"""A scheduler that asked the process to stop kills it soon."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrainingReport(LocalReport):
    """The outcome of each selected run, and what could not be sent to a bucket."""

    unsent: SyncOutcome | None = None
    """What could not be sent; None where nothing was to be sent."""


def train(
    plan: Plan,
    output: Path,
    settings: LocalSettings,
    *,
    listeners: Sequence[Listener] = (),
    sync: SyncOptions | None = None,
) -> TrainingReport:
    """Freeze `plan` in `output` and train its runs, the longest first; finished ones are skipped.

    ConfigChangedError where the folder or the bucket holds another plan, BucketError where the
    bucket refuses: nothing is started then. BucketUnavailableError where claims need the bucket and
    it does not answer. What cannot be sent later is in the report.
    """
    return _train(plan, output, settings, lambda: _freeze(plan, output), listeners, sync)


def train_frozen(
    plan: Plan,
    output: Path,
    settings: LocalSettings,
    *,
    listeners: Sequence[Listener] = (),
    sync: SyncOptions | None = None,
) -> TrainingReport:
    """As `train`, for a plan that was read from `output`."""
    return _train(plan, output, settings, lambda: plan.sweep, listeners, sync)


def _train(
    plan: Plan,
    output: Path,
    settings: LocalSettings,
    frozen: Callable[[], Sweep],
    listeners: Sequence[Listener],
    sync: SyncOptions | None,
) -> TrainingReport:
    events = Listeners(listeners)
    if sync:
        _ask_bucket(sync, plan.sweep, events)
        if sync.has_claims:
            _publish_plan(sync, plan.sweep, output)
    sweep = frozen()
    for line in code_differs(sweep.code, settings.code):
        events.notice(f"the code has changed since {output} was planned: {line}")
    # First merge, then send: the bucket's copy of the view is made from what was sent.
    events.add(_Merging(output))
    runs = longest_first(plan.runs, plan.estimates)
    if sync is None:
        return _report(run_local(sweep, runs, output, settings, events.publish))
    sending = _Sending(sync, replace(plan, sweep=sweep), output, settings, events)
    try:
        report = run_local(sweep, runs, output, sending.settings, events.publish)
    except BaseException:
        # In a notebook the process lives on: its heartbeat threads must not keep the claims.
        sending.close(0.0)
        raise
    return sending.finish(report)


def _freeze(plan: Plan, output: Path) -> Sweep:
    sweep = freeze(output, plan.sweep)
    if plan.division.is_balanced and settle_shards(output, plan.all_shards) != plan.all_shards:
        raise StorageError(
            f"{output} holds another division of these runs, made by another server a moment ago: "
            f"give the same command again, it takes that one (in Python: `plan` with `output`)",
            path=output,
        )
    return sweep


def _ask_bucket(sync: SyncOptions, sweep: Sweep, events: Listeners) -> None:
    from orchestrator.sync.backlog import delay_message
    from orchestrator.sync.plan import check_before_training

    try:
        check_before_training(sync.target, sweep)
    except BucketUnavailableError as error:
        # Without claims no run needs the bucket to start: what it misses is sent later.
        if sync.has_claims:
            raise
        events.notice(delay_message(error))


def _publish_plan(sync: SyncOptions, sweep: Sweep, output: Path) -> None:
    """Put the plan into the bucket whose claims share its runs; the folder's plan if it has one.

    Before the folder gets it: of two hosts that start with different plans at once, the bucket
    refuses one, and that one keeps no plan that it could never train.
    """
    from orchestrator.bucket_claims.plan import publish_plan_to

    publish_plan_to(sync.target, output, existing_plan(output, sweep) or sweep)


class _Merging:
    """Brings the merged view of the folder up to date after completions."""

    name = "merging"

    def __init__(self, output: Path) -> None:
        self._output = output

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunsCompleted):
            rebuild(self._output, patience_s=_MERGE_PATIENCE_S)


class _Sending:
    """Sends completed runs from a thread of its own; a listener that only adds to its backlog."""

    name = "sync"

    def __init__(
        self,
        sync: SyncOptions,
        plan: Plan,
        output: Path,
        settings: LocalSettings,
        events: Listeners,
    ) -> None:
        from orchestrator.sync.backlog import Backlog

        self._sync = sync
        self._events = events
        self._claims = _claims(sync, plan.sweep, output, settings)
        self._backlog = Backlog(output, sync.target, plan.runs, self._claims)
        self.settings = settings
        if self._claims:
            self._claims.on_run_ended = self._backlog.add
            self.settings = replace(settings, claims=self._claims)
        self._backlog.start()
        events.add(self)

    def __call__(self, event: RunEvent) -> None:
        if isinstance(event, RunsCompleted):
            for run in event.runs:
                self._backlog.add(run)
            self._publish_news()

    def finish(self, trained: LocalReport) -> TrainingReport:
        """Send what is left, and add what could not be sent to the report."""
        patience_s = self._sync.patience_s
        if trained.was_stopped:
            patience_s = min(patience_s, _SYNC_PATIENCE_WHEN_STOPPED_S)
        unsent = self.close(patience_s)
        self._publish_news()
        return _report(trained, unsent)

    def close(self, patience_s: float) -> SyncOutcome:
        """Send what is left while something moves at least every `patience_s` seconds."""
        try:
            return self._backlog.close(patience_s)
        except KeyboardInterrupt:
            return self._backlog.close(0.0)
        finally:
            if self._claims:
                self._claims.close()

    def _publish_news(self) -> None:
        for message in self._backlog.pop_messages():
            self._events.notice(message)


def _claims(
    sync: SyncOptions, sweep: Sweep, output: Path, settings: LocalSettings
) -> FolderAndBucketClaims | None:
    if not sync.has_claims:
        return None
    from orchestrator.bucket_claims.claims import FolderAndBucketClaims

    return FolderAndBucketClaims(output, sync.target, sweep, settings.heartbeat_s)


def _report(trained: LocalReport, unsent: SyncOutcome | None = None) -> TrainingReport:
    return TrainingReport(
        endings=trained.endings,
        was_stopped=trained.was_stopped,
        sync_exit_code=_exit_code(unsent) if unsent else 0,
        unsent=unsent,
    )


def _exit_code(unsent: SyncOutcome) -> int:
    """75 try again later, 1 the bucket has another result or something damaged, 0 all is sent."""
    if unsent.unsent_runs or unsent.is_view_outdated:
        return BucketUnavailableError.exit_code
    return 1 if unsent.has_second_results else 0
