"""Two doctors meet, whichever of them comes first, and whatever the other has only begun."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from orchestrator.doctor.rendezvous import Meeting, meet, poll


def test_a_folder_that_somebody_has_made_and_not_arrived_in_is_where_both_meet(
    tmp_path: Path,
) -> None:
    (tmp_path / "0001").mkdir()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meet, tmp_path, "a", 30.0)
        arrived = tmp_path / "0001" / "arrived.first.json"
        assert poll(arrived.exists, 20.0) is not None
        second = meet(tmp_path, "b", 30.0)
        first = waiting.result()
    assert (first.role, second.role) == ("first", "second")
    assert first.folder == second.folder == tmp_path / "0001"


def test_two_that_come_at_the_same_moment_meet(tmp_path: Path) -> None:
    barrier = Barrier(2)

    def come(meetings: Path) -> Meeting:
        barrier.wait()
        return meet(meetings, "one", 30.0)

    with ThreadPoolExecutor(2) as pool:
        for index in range(20):
            folders = [tmp_path / str(index)] * 2
            assert {meeting.role for meeting in pool.map(come, folders)} == {"first", "second"}
