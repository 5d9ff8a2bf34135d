"""Listeners get every event, and none of them can stop a sweep."""

from __future__ import annotations

import itertools

import pytest
from support.grids import make_grid

from merge.errors import StorageError
from orchestrator.local.events import Notice, RunEvent, RunsCompleted
from orchestrator.local.listeners import Listeners

DONE = RunsCompleted(runs=make_grid().runs[:1])


class Merging:
    """Fails with each of `errors` in turn."""

    name = "merging"

    def __init__(self, *errors: BaseException | None) -> None:
        self._errors = list(errors)
        self.events: list[RunEvent] = []

    def __call__(self, event: RunEvent) -> None:
        self.events.append(event)
        if isinstance(event, RunsCompleted) and (error := self._errors.pop(0)):
            raise error


def notices(events: list[RunEvent]) -> list[str]:
    return [event.message for event in events if isinstance(event, Notice)]


def test_a_failing_listener_keeps_no_event_from_the_others():
    before: list[RunEvent] = []
    after: list[RunEvent] = []
    listeners = Listeners([before.append, Merging(OSError("gone")), after.append])
    listeners.publish(DONE)
    assert DONE in before
    assert DONE in after


def test_a_failure_is_reported_to_all_with_the_listeners_name():
    seen: list[RunEvent] = []
    merging = Merging(StorageError("the disk is full"))
    Listeners([merging, seen.append]).publish(DONE)
    assert notices(seen) == ["merging failed, training continues: the disk is full"]
    assert notices(merging.events) == notices(seen)


def test_the_same_failure_is_reported_once_and_another_one_again():
    seen: list[RunEvent] = []
    full, away = StorageError("the disk is full"), StorageError("no answer")
    listeners = Listeners([seen.append, Merging(full, full, None, full, away)])
    for _ in range(5):
        listeners.publish(DONE)
    assert [text.rpartition(": ")[2] for text in notices(seen)] == ["the disk is full", "no answer"]
    assert seen.count(DONE) == 5


def test_a_listener_that_fails_with_every_event_ends_nothing():
    def broken(event: RunEvent) -> None:
        raise BrokenPipeError

    seen: list[RunEvent] = []
    listeners = Listeners([broken, seen.append])
    listeners.publish(DONE)
    listeners.publish(DONE)
    (text,) = notices(seen)
    assert "broken failed" in text
    assert "BrokenPipeError" in text


def test_failures_with_a_new_text_each_time_are_not_reported_without_end():
    texts = itertools.count()

    def first(event: RunEvent) -> None:
        raise StorageError(f"first, request {next(texts)}")

    def second(event: RunEvent) -> None:
        raise StorageError(f"second, request {next(texts)}")

    seen: list[RunEvent] = []
    listeners = Listeners([first, second, seen.append])
    listeners.publish(DONE)
    assert seen.count(DONE) == 1
    assert 2 <= len(notices(seen)) <= 4
    before = len(seen)
    listeners.publish(DONE)
    assert len(seen) > before + 1, "a later failure of work with another text is reported"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_request_to_stop_inside_a_listener_passes_through(stop):
    with pytest.raises(stop):
        Listeners([Merging(stop())]).publish(DONE)
