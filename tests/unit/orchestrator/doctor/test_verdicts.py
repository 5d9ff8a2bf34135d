"""Doctor's verdicts: what evidence is refused, what is only told, what a machine lacks."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from support.sweeps import make_sweep

from merge.errors import IncompleteError
from merge.storage.paths import SweepPaths
from orchestrator.doctor import machine
from orchestrator.doctor.check import Check, checks_of_rights, is_refused
from orchestrator.doctor.machine import (
    check_disk,
    check_gpus,
    check_path,
    check_shared_memory,
    check_slurm,
)
from orchestrator.doctor.meeting import meet
from orchestrator.doctor.trials import _GONE, _TORN, NUM_ROUNDS, TRIALS, _block, _read_block
from orchestrator.machine import shared_memory
from orchestrator.plan.disk_need import DiskNeed, estimate_disk
from orchestrator.s3.permissions import Permission

LISTED = ("a new file, listed and opened", "a replaced file, listed and opened")
UNUSED = (
    "a new file, opened at once",
    "a new file, asked for with exists()",
    "a replaced file, opened at once",
)
RACES = ("link excludes", "create excludes", "mkdir excludes")
LOCKS = ("native lock (flock)", "native lock (fcntl)")
EVEN, ODD = list(range(0, NUM_ROUNDS, 2)), list(range(1, NUM_ROUNDS, 2))
Evidence = dict[str, Any]
"""Trial -> what one process found."""


def clocks(host: str, *, peer_ahead_s: float = 0.0, ahead_of_files_s: float = 0.0) -> Evidence:
    numbers = {"peer_ahead_s": peer_ahead_s, "ahead_of_files_s": ahead_of_files_s}
    return {"clocks agree": {"host": host, **numbers}}


OWN: Evidence = {
    **dict.fromkeys(RACES, EVEN),
    "rename is atomic": {"torn": 0, "backwards": 0, "gone": 0},
    **dict.fromkeys((*LISTED, *UNUSED), 0.01),
    **clocks("a"),
    **dict.fromkeys(LOCKS, "held"),
}
OTHER = {**OWN, **dict.fromkeys(RACES, ODD), **clocks("b"), **dict.fromkeys(LOCKS, "busy")}


def judge(own: Evidence, other: Evidence) -> list[Check]:
    return [trial.judge(own[trial.name], other[trial.name]) for trial in TRIALS]


def verdicts(own: Evidence, other: Evidence) -> dict[str, str]:
    """Name -> verdict, of all checks that are not ok."""
    return {one.name: one.verdict for one in judge(own, other) if one.verdict != "ok"}


def test_a_folder_that_keeps_everything_is_not_refused():
    assert verdicts(OWN, OTHER) == {}


@pytest.mark.parametrize(
    "winners", [EVEN, ODD[:-1], [*ODD, 0]], ids=["both", "neither", "one more"]
)
def test_a_link_that_two_made_or_no_process_could_make_is_refused(winners):
    assert verdicts(OWN, {**OTHER, "link excludes": winners}) == {"link excludes": "refused"}


@pytest.mark.parametrize("name", RACES[1:])
def test_what_papergrid_does_not_use_is_a_warning_where_it_does_not_exclude(name):
    assert verdicts(OWN, {**OTHER, name: EVEN}) == {name: "warning"}


def test_a_reader_that_saw_a_part_of_a_file_is_refused():
    torn = {"rename is atomic": {"torn": 1, "backwards": 0, "gone": 0}}
    assert verdicts(OWN, {**OTHER, **torn}) == {"rename is atomic": "refused"}


def test_what_a_reader_finds_is_a_whole_block_a_part_two_contents_or_no_file(tmp_path):
    path = tmp_path / "block"
    assert _read_block(path) == _GONE
    whole = _block(7)
    for data, number in [(whole, 7), (whole[:-1], _TORN), (b"", _TORN)]:
        path.write_bytes(data)
        assert _read_block(path) == number
    path.write_bytes(whole[:8000] + _block(8)[8000:])
    assert _read_block(path) == _TORN


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({LISTED[0]: None}, {LISTED[0]: "refused"}),
        ({LISTED[1]: None}, {LISTED[1]: "refused"}),
        ({LISTED[1]: 4.0}, {LISTED[1]: "warning"}),
        (dict.fromkeys(UNUSED), {}),
    ],
)
def test_only_the_way_in_which_papergrid_looks_must_show_what_others_wrote(changed, expected):
    assert verdicts(OWN, {**OTHER, **changed}) == expected
    assert verdicts({**OWN, **changed}, OTHER) == expected


@pytest.mark.parametrize(
    ("peer_ahead_s", "other_ahead_of_files_s", "expected"),
    [
        (0.5, 0.5, {}),
        (120.0, 120.0, {"clocks agree": "warning"}),
        (-120.0, -120.0, {"clocks agree": "warning"}),
        (120.0, 0.0, {"clocks agree": "refused"}),
        (5.0, 0.0, {"clocks agree": "warning"}),
    ],
    ids=["close", "server stamps", "server stamps, behind", "hosts stamp", "hosts stamp, a little"],
)
def test_clocks_that_differ_are_refused_where_each_host_stamps_files_by_its_own(
    peer_ahead_s, other_ahead_of_files_s, expected
):
    own = {**OWN, **clocks("a", peer_ahead_s=peer_ahead_s)}
    other = {**OTHER, **clocks("b", ahead_of_files_s=other_ahead_of_files_s)}
    assert verdicts(own, other) == expected


@pytest.mark.parametrize(
    ("own", "other", "result"),
    [
        ("held", "busy", "excludes"),
        ("busy", "held", "excludes"),
        ("held", "held", "two holders"),
        ("No locks available", "No locks available", "No locks available"),
        ("held", "No locks available", "No locks available"),
    ],
)
def test_native_locks_are_only_reported(own, other, result):
    checks = judge({**OWN, LOCKS[0]: own}, {**OTHER, LOCKS[0]: other})
    (lock,) = (one for one in checks if one.name == LOCKS[0])
    assert (lock.verdict, lock.numbers["result"]) == ("ok", result)


def test_a_peer_that_does_not_come_makes_no_meeting_and_leaves_nothing(tmp_path):
    with pytest.raises(IncompleteError, match="the same command on the other host"):
        meet(tmp_path / "meetings", 0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_without_a_right_that_is_needed_is_refused():
    found = [
        Permission("put", is_given=True, is_needed=True),
        Permission("list", is_given=False, is_needed=True),
        Permission("delete", is_given=False, is_needed=False),
    ]
    checks = checks_of_rights(found)
    assert [one.verdict for one in checks] == ["ok", "refused", "warning"]
    assert is_refused(checks)


@pytest.mark.parametrize(("device", "verdict"), [("cuda", "refused"), ("auto", "warning")])
def test_a_machine_without_gpus_is_refused_only_for_runs_that_must_have_one(
    tmp_path, monkeypatch, device, verdict
):
    monkeypatch.setenv("PATH", str(tmp_path))
    runs = make_sweep(("true",), device=device).runs
    assert check_gpus(runs).verdict == verdict


@pytest.mark.parametrize(
    ("script", "verdict", "finding"),
    [
        ("exit 0", "ok", "squeue answers"),
        ("echo slurm_load_jobs error >&2; exit 1", "warning", "slurm_load_jobs error"),
        (None, "ok", "no sbatch and squeue"),
    ],
)
def test_a_slurm_that_does_not_answer_is_told(tmp_path, monkeypatch, script, verdict, finding):
    if script:
        for name in ("sbatch", "squeue"):
            program = tmp_path / name
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = check_slurm()
    assert check.verdict == verdict
    assert finding in check.finding


def test_paths_that_cannot_be_read_are_refused_by_name(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"1")
    missing = check_path("data root", "--data-root", tmp_path / "no")
    assert missing.verdict == "refused"
    assert "--data-root" in missing.fix
    assert check_path("weights", "--weights", tmp_path / "weights.pt").verdict == "ok"


def fill(output: Path, run_path: str, *, checkpoint: int, is_done: bool) -> None:
    paths = SweepPaths(output).run(run_path)
    paths.checkpoints.mkdir(parents=True)
    paths.last_checkpoint.write_bytes(b"\0" * checkpoint)
    if is_done:
        paths.result.write_bytes(b"\0" * 100)


def test_open_runs_are_expected_to_write_what_finished_ones_wrote(tmp_path):
    runs = make_sweep(("true",), folds=4).runs
    assert estimate_disk(tmp_path, runs) is None
    fill(tmp_path, runs[0].path, checkpoint=900, is_done=False)
    assert estimate_disk(tmp_path, runs).total_bytes == int(900 * 4 * 1.1)
    fill(tmp_path, runs[1].path, checkpoint=1900, is_done=True)
    need = estimate_disk(tmp_path, runs)
    assert (need.num_runs, need.total_bytes) == (3, int(2000 * 3 * 1.1))


@pytest.mark.parametrize(("total_bytes", "verdict"), [(1, "ok"), (10**18, "refused")])
def test_a_disk_too_small_for_the_open_runs_is_refused(tmp_path, total_bytes, verdict):
    need = DiskNeed(num_runs=3, total_bytes=total_bytes, source="measured")
    check: Check = check_disk(tmp_path, need)
    assert check.verdict == verdict


def test_a_dev_shm_that_is_too_small_for_the_loaders_of_a_run_is_refused(monkeypatch, tmp_path):
    free = 64 * 2**20
    monkeypatch.setattr(machine, "free_shared_memory", lambda _place: free)
    found = check_shared_memory(make_sweep(num_workers=2, devices_per_run=4).runs)
    assert (found.verdict, found.finding) == (
        "refused",
        "/dev/shm has 64.0 MiB free, 8 loader processes may need 512.0 MiB",
    )
    assert "docker: --shm-size=8g" in found.fix
    assert check_shared_memory(make_sweep(num_workers=1).runs).verdict == "ok"
    assert check_shared_memory(make_sweep(num_workers=0).runs).verdict == "ok"
    assert check_shared_memory(()).verdict == "warning"
    free = 2 * 10**9
    assert check_shared_memory(()).verdict == "ok"


def test_a_machine_without_dev_shm_is_named(tmp_path):
    found = check_shared_memory(make_sweep(num_workers=2).runs, tmp_path / "none")
    assert (found.verdict, found.finding) == (
        "refused",
        f"{tmp_path}/none cannot be used (No such file or directory)",
    )


def test_a_run_says_before_it_starts_that_dev_shm_may_be_too_small(monkeypatch):
    monkeypatch.setattr(shared_memory, "free_shared_memory", lambda: 64 * 2**20)
    runs = make_sweep(num_workers=2).runs
    assert shared_memory.shortage_of(runs, num_ranks=3) == (
        "/dev/shm has 64.0 MiB free, 6 loader processes may need 384.0 MiB: make /dev/shm larger "
        "(docker: --shm-size=8g or --ipc=host), or lower num_workers in the study's resources"
    )
    assert shared_memory.shortage_of(make_sweep().runs, num_ranks=3) == ""
