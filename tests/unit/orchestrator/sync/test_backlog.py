"""The thread that sends runs beside a sweep: what it retries, and what it says at the end."""

from __future__ import annotations

import errno

import pytest
from support.grids import make_grid, write_result, write_sweep
from support.memory_bucket import TARGET, MemoryBucket

from merge.errors import BucketError, BucketUnavailableError, RecordError
from orchestrator.sync import backlog as module
from orchestrator.sync.backlog import Backlog, SyncOutcome
from orchestrator.sync.push import Push

SWEEP = make_grid(folds=(0,))
(RUN,) = SWEEP.runs


class View:
    """The merged JSON in the bucket: an update ends with the next of `errors`, the last for all."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.num_updates = 0

    def update(self, *_: object) -> None:
        error = self.errors[min(self.num_updates, len(self.errors) - 1)]
        self.num_updates += 1
        if error:
            raise error


def send(monkeypatch, output, view: View, patience_s: float = 20.0) -> tuple[SyncOutcome, Backlog]:
    write_sweep(output, SWEEP)
    write_result(output, RUN, 0.5)
    monkeypatch.setattr(module, "Bucket", lambda _: MemoryBucket())
    monkeypatch.setattr(module, "prepare_push", lambda _: SWEEP)
    monkeypatch.setattr(module, "update_merged_view", view.update)
    monkeypatch.setattr(module, "backoff_s", lambda *_: 0.01)
    monkeypatch.setattr(Push, "push_run", lambda *_: None)
    backlog = Backlog(output, TARGET, SWEEP.runs)
    backlog.start()
    return backlog.close(patience_s), backlog


@pytest.mark.parametrize("error", [ValueError("a defect"), BucketUnavailableError("no answer")])
def test_a_view_that_could_not_be_updated_is_retried(monkeypatch, tmp_path, error):
    view = View(error, None)
    outcome, backlog = send(monkeypatch, tmp_path, view)
    assert not outcome.is_view_outdated
    assert view.num_updates >= 2
    assert any(str(error) in message for message in backlog.pop_messages())


def test_a_view_that_is_never_updated_is_reported_as_outdated(monkeypatch, tmp_path):
    view = View(ValueError("a defect"))
    outcome, _ = send(monkeypatch, tmp_path, view, patience_s=0.5)
    # So that the thread ends.
    view.errors.append(None)
    assert outcome.is_view_outdated
    assert outcome.reason == "a defect"


def test_a_store_that_cannot_keep_a_view_is_reported_and_not_retried(monkeypatch, tmp_path):
    refusal = BucketError("this store ignores conditions")
    outcome, backlog = send(monkeypatch, tmp_path, View(refusal))
    assert not outcome.is_view_outdated
    assert outcome.unsent_runs == ()
    assert str(refusal) in backlog.pop_messages()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), RecordError("damaged claim")])
def test_a_run_whose_claim_cannot_be_judged_does_not_end_a_close(monkeypatch, tmp_path, error):
    def fail(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr(module.ClaimWatch, "look", fail)
    outcome, _ = send(monkeypatch, tmp_path, View(None))
    assert outcome.unsent_runs == ()
