"""best.pt is the model of the epoch that the result names, however an attempt ended."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import torch
from support.tiny_training import TinyRun

from experiments.runtime import checkpoint
from merge.errors import DataError, UsageError
from merge.storage import atomic
from merge.storage.disk import SYSTEM_DISK

FIRST = {1: 0.5, 2: 0.1, 3: 0.9}
"""Epoch 1 is the best until epoch 3 is."""
AGAIN = {1: 0.5, 2: 0.1, 3: 0.3}
"""What another attempt measures, on a GPU: there epoch 1 stays the best."""


class Killed(BaseException):
    """The process is gone: not even its clean-up runs."""


class FailingDisk:
    """The system's, whose operation `fails_at` does not happen; after a kill none does."""

    def __init__(self, *, fails_at: int, error: BaseException) -> None:
        self.fails_at, self.error, self.done = fails_at, error, 0

    def __getattr__(self, name: str) -> Any:
        operation = getattr(SYSTEM_DISK, name)

        def act(*arguments: Any) -> Any:
            self.done += 1
            is_gone = isinstance(self.error, Killed) and self.done > self.fails_at > 0
            if self.done == self.fails_at or is_gone:
                raise self.error
            return operation(*arguments)

        return act


def use_disk(monkeypatch: pytest.MonkeyPatch, disk: Any) -> None:
    monkeypatch.setattr(
        checkpoint, "write_atomic", lambda path, write: atomic.write_atomic(path, write, disk)
    )


def finish(trainer: Any) -> tuple[int, dict[str, torch.Tensor]]:
    """Train to the end as a session does; the best epoch, and the model that is loaded then."""
    best = trainer.fit().best
    assert best is not None
    trainer.snapshots.load_best(best)
    return best.epoch, trainer._setup.learner.model.state_dict()


def is_same(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_best_and_last_agree_whichever_operation_fails_or_is_the_last(tmp_path, monkeypatch):
    # No power is lost here: the disk is not waited for a thousand times.
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    counting = FailingDisk(fails_at=-1, error=OSError())
    use_disk(monkeypatch, counting)
    finish(TinyRun(tmp_path / "whole").attempt(scores=FIRST))
    assert counting.done > 12
    errors = (Killed(), OSError(errno.EIO, "broken"))
    ends = set()
    for number in range(1, counting.done + 1):
        for kind, error in enumerate(errors):
            run = TinyRun(tmp_path / f"{number}-{kind}")
            first = run.attempt(scores=FIRST)
            use_disk(monkeypatch, FailingDisk(fails_at=number, error=error))
            with pytest.raises(BaseException):  # noqa: B017, PT011
                finish(first)
            use_disk(monkeypatch, SYSTEM_DISK)
            second = run.attempt(scores=AGAIN)
            epoch, model = finish(second)
            # The model that was measured in that epoch, by the attempt whose epoch counts.
            tasks = [trainer._setup.task for trainer in (second, first)]
            measured = next(task.measured[epoch] for task in tasks if epoch in task.measured)
            on_disk = torch.load(run.paths.best_checkpoint, weights_only=True)
            assert on_disk["evaluation"]["epoch"] == epoch, (number, error)
            assert is_same(on_disk["model"], measured), (number, error)
            assert is_same(model, measured), (number, error)
            last = torch.load(run.paths.last_checkpoint, weights_only=True)
            assert last["best"]["sha256"] == on_disk["sha256"], (number, error)
            ends.add(epoch)
    # Both happen: the first attempt's epoch 3 counts once it stands in last.pt, else it never does.
    assert ends == {1, 3}


def test_a_best_model_of_another_epoch_is_replaced_by_the_one_that_last_pt_carries(tmp_path):
    """As a bucket leaves it that got best.pt, but not yet the last.pt that goes with it."""
    run, other = TinyRun(tmp_path / "run"), TinyRun(tmp_path / "other")
    finish(run.attempt(scores={1: 0.5, 2: 0.1}))
    finish(other.attempt(scores={1: 0.5, 2: 0.1, 3: 0.7}))
    expected = run.paths.best_checkpoint.read_bytes()
    run.paths.best_checkpoint.write_bytes(other.paths.best_checkpoint.read_bytes())
    finish(run.attempt())
    assert run.paths.best_checkpoint.read_bytes() == expected


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_lost_or_damaged_best_pt_is_made_again(tmp_path, damage):
    run = TinyRun(tmp_path / "run")
    finish(run.attempt(scores=FIRST))
    expected = run.paths.best_checkpoint.read_bytes()
    run.paths.best_checkpoint.unlink()
    if damage is not None:
        run.paths.best_checkpoint.write_bytes(damage)
    assert finish(run.attempt())[0] == 3
    assert run.paths.best_checkpoint.read_bytes() == expected


def of_an_earlier_version(run: TinyRun) -> None:
    """Rewrite both checkpoints as versions did that named the best model in neither."""
    for path, new in ((run.paths.last_checkpoint, "best"), (run.paths.best_checkpoint, "sha256")):
        state = torch.load(path, weights_only=True)
        del state[new]
        torch.save(state, path)


@pytest.mark.parametrize("scores", [AGAIN, {1: 0.1, 3: 0.2}])
def test_checkpoints_of_an_earlier_version_are_read(tmp_path, scores):
    run = TinyRun(tmp_path / "run")
    epoch, model = finish(run.attempt(scores=scores))
    of_an_earlier_version(run)
    assert finish(run.attempt())[0] == epoch
    assert is_same(torch.load(run.paths.best_checkpoint, weights_only=True)["model"], model)


def test_a_best_model_that_an_earlier_version_lost_is_refused(tmp_path):
    run = TinyRun(tmp_path / "run")
    finish(run.attempt(scores=AGAIN))
    of_an_earlier_version(run)
    run.paths.best_checkpoint.unlink()
    with pytest.raises(UsageError, match=r"best epoch \(1\) is lost.*delete both checkpoints"):
        finish(run.attempt())


def test_the_best_model_takes_no_space_twice_where_it_is_the_present_one(tmp_path):
    run = TinyRun(tmp_path / "run")
    finish(run.attempt(scores=FIRST))
    state = torch.load(run.paths.last_checkpoint, weights_only=True)
    for name, value in state["model"].items():
        assert value.data_ptr() == state["best"]["model"][name].data_ptr()


def failing(index: int) -> float:
    raise DataError(f"photograph {index}.jpg is missing")


def test_a_run_that_failed_before_its_first_step_goes_on_with_mended_data(tmp_path):
    run = TinyRun(tmp_path / "run")
    with pytest.raises(DataError, match="is missing"):
        run.attempt(data="broken", read=failing).fit()
    assert not run.paths.last_checkpoint.exists()
    assert finish(run.attempt(data="mended", scores=FIRST))[0] == 3


def test_a_checkpoint_from_before_the_first_step_binds_a_run_to_no_data(tmp_path):
    """Earlier versions wrote one after the evaluation of the untrained model."""
    run = TinyRun(tmp_path / "run")
    finish(run.attempt(data="broken"))
    state = torch.load(run.paths.last_checkpoint, weights_only=True)
    state["progress"].update(epoch=0, step=0, best=None, final=None, history=[])
    torch.save(state, run.paths.last_checkpoint)
    run.paths.best_checkpoint.unlink()
    second = run.attempt(data="mended", scores=FIRST)
    assert finish(second)[0] == 3
    assert sorted(second._setup.task.measured) == [0, 1, 2, 3]


def test_trained_checkpoints_of_other_data_are_a_failure_of_the_data(tmp_path):
    run = TinyRun(tmp_path / "run")
    finish(run.attempt(data="broken"))
    with pytest.raises(DataError, match=r"made with other data \(broken\) .*delete that folder"):
        run.attempt(data="mended").fit()


def test_the_best_epoch_may_be_chosen_on_a_validation_list_that_is_no_part_of_the_result(tmp_path):
    run = TinyRun(tmp_path)
    trainer = run.attempt(
        scores={1: 1.0, 2: 5.0, 3: 9.0}, validation_scores={1: 2.0, 2: 3.0, 3: 1.0}
    )
    progress = trainer.fit()
    assert progress.best is not None
    assert (progress.best.epoch, progress.best.metrics) == (2, {"score": 5.0})
    assert progress.best.summary() == {"epoch": 2, "score": 5.0, "validation_score": 3.0}
    again = run.attempt(validation_scores={})
    again._restore()
    assert again.progress.best is not None
    assert again.progress.best.choosing == {"score": 3.0}
