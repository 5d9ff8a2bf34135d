"""Two doctors meet, whichever comes first, and also where a killed one left its files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from merge.errors import IncompleteError
from merge.storage.json_files import write_json
from orchestrator.doctor import meeting as meetings_module
from orchestrator.doctor.meeting import Meeting, meet, poll


def test_a_folder_that_somebody_has_made_and_not_arrived_in_is_where_both_meet(
    tmp_path: Path,
) -> None:
    (tmp_path / "0001").mkdir()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meet, tmp_path, 30.0)
        arrived = tmp_path / "0001" / "arrived.first.json"
        assert poll(arrived.exists, 20.0) is not None
        second = meet(tmp_path, 30.0)
        first = waiting.result()
    assert (first.role, second.role) == ("first", "second")
    assert first.folder == second.folder == tmp_path / "0001"


def test_two_that_come_at_the_same_moment_meet(tmp_path: Path) -> None:
    barrier = Barrier(2)

    def come(meetings: Path) -> Meeting:
        barrier.wait()
        return meet(meetings, 30.0)

    with ThreadPoolExecutor(2) as pool:
        for index in range(20):
            folders = [tmp_path / str(index)] * 2
            assert {meeting.role for meeting in pool.map(come, folders)} == {"first", "second"}


def come_together(meetings: Path) -> set[str]:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: meet(meetings, 30.0), range(2)))
    assert both[0].folder == both[1].folder
    return {meeting.role for meeting in both}


def test_the_files_of_a_doctor_killed_while_it_waited_stop_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings_module, "_WELCOME_S", 0.5)
    write_json(tmp_path / "0001" / "arrived.first.json", {"name": "killed"})
    assert come_together(tmp_path) == {"first", "second"}


def test_the_files_of_two_doctors_killed_at_work_stop_no_later_ones(tmp_path: Path) -> None:
    for role in ("first", "second"):
        write_json(tmp_path / "0001" / f"arrived.{role}.json", {"name": "killed"})
    assert come_together(tmp_path) == {"first", "second"}
    assert (tmp_path / "0002").is_dir()


def test_a_second_doctor_that_dies_is_an_error_that_says_so(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meet, tmp_path, 0.5)
        second = tmp_path / "0001" / "arrived.second.json"
        assert poll((tmp_path / "0001" / "arrived.first.json").exists, 20.0) is not None
        write_json(second, {"name": "killed"})
        meeting = waiting.result()
    with pytest.raises(IncompleteError, match="it died, or this host does not see"):
        meeting.exchange("clocks", None)
