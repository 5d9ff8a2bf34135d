"""Which files of an output folder are synced, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.grids import make_grid

from orchestrator.sync.local_files import local_files
from orchestrator.sync.selection import (
    is_synced,
    run_of_name,
    runs_by_path,
    transfer_order,
)

SWEEP = make_grid()
RUN = SWEEP.runs[0]
NAMES = [
    f"{RUN.path}/{name}"
    for name in (
        "result.json",
        "run.json",
        "attempts/0001/events.jsonl",
        "checkpoints/best.pt",
        "checkpoints/last.pt",
        "result.aside-x.json",
    )
]


@given(st.permutations(NAMES))
def test_checkpoints_come_first_and_the_result_last(names: list[str]):
    ordered = transfer_order(names, RUN)
    assert ordered[0].endswith("best.pt")
    assert ordered[1].endswith("last.pt")
    assert ordered[-1] == f"{RUN.path}/result.json"
    assert sorted(ordered) == sorted(names)


@pytest.mark.parametrize(
    "name",
    [
        "claim-0001.json",
        "request-0001.json",
        ".last.pt.12.ab.tmp",
        "x.tmp",
        ".hidden/file",
        "../up",
        "a//b",
        "a/./b",
    ],
)
def test_claims_requests_temporary_and_hidden_files_are_never_synced(name: str):
    assert not is_synced(f"{RUN.path}/{name}")


def test_only_the_files_of_a_run_are_its_own(tmp_path: Path):
    for name in (*NAMES, f"{RUN.path}/claim-0001.json", "other/file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / RUN.path / "link").symlink_to("/etc/hostname")
    assert local_files(tmp_path, RUN).names == tuple(sorted(NAMES))


@pytest.mark.parametrize("name", ["sweep.json", "elsewhere/result.json", RUN.path, "a/../b"])
def test_a_name_outside_of_all_runs_has_no_owner(name: str):
    assert run_of_name(name, runs_by_path(SWEEP)) is None


def test_a_name_deep_in_a_run_has_its_owner():
    assert run_of_name(f"{RUN.path}/a/b/c", runs_by_path(SWEEP)) == RUN
