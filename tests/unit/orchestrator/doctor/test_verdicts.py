"""Doctor's verdicts: what evidence is refused, what is only told, what a machine lacks."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from support.sweeps import make_sweep

from merge.errors import IncompleteError
from merge.storage.paths import SweepPaths
from orchestrator.doctor.check import Check, checks_of_rights, is_refused
from orchestrator.doctor.folder import judge
from orchestrator.doctor.folder_probe import NUM_ROUNDS, Evidence
from orchestrator.doctor.machine import Needs, check_disk, check_gpus, check_paths, check_slurm
from orchestrator.doctor.rendezvous import meet
from orchestrator.plan.disk_need import DiskNeed, estimate_disk
from orchestrator.s3.permissions import Permission

WAYS = ("new, listed", "new, opened", "new, exists", "replaced, listed", "replaced, opened")
EVEN, ODD = list(range(0, NUM_ROUNDS, 2)), list(range(1, NUM_ROUNDS, 2))
OWN = Evidence(
    host="a",
    clock_ahead_s=0.0,
    won={"link": EVEN, "create": EVEN, "mkdir": EVEN},
    seen_after_s=dict.fromkeys(WAYS, 0.01),
    locks={"flock": "excludes", "fcntl": "excludes"},
    peer_ahead_s=0.0,
)
OTHER = replace(OWN, host="b", won={"link": ODD, "create": ODD, "mkdir": ODD})


def verdicts(own: Evidence, other: Evidence) -> dict[str, str]:
    """Name -> verdict, of all checks that are not ok."""
    return {one.name: one.verdict for one in judge(own, other) if one.verdict != "ok"}


def seeing(**delays: float | None) -> Evidence:
    changed = {way.replace("_", ", "): delay for way, delay in delays.items()}
    return replace(OTHER, seen_after_s={**OTHER.seen_after_s, **changed})


def test_a_folder_that_keeps_everything_is_not_refused():
    assert verdicts(OWN, OTHER) == {}


@pytest.mark.parametrize(
    "winners", [EVEN, ODD[:-1], [*ODD, 0]], ids=["both", "neither", "one more"]
)
def test_a_link_that_two_made_or_no_process_could_make_is_refused(winners):
    other = replace(OTHER, won={**OTHER.won, "link": winners})
    assert verdicts(OWN, other) == {"link excludes": "refused"}


@pytest.mark.parametrize("way", ["create", "mkdir"])
def test_what_papergrid_does_not_use_is_told_where_it_does_not_exclude(way):
    other = replace(OTHER, won={**OTHER.won, way: EVEN})
    assert verdicts(OWN, other) == {f"{way} excludes": "warning"}


def test_a_reader_that_saw_a_part_of_a_file_is_refused():
    assert verdicts(OWN, replace(OTHER, torn=1)) == {"rename is atomic": "refused"}


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (seeing(new_listed=None), {"a new file, listed and opened": "refused"}),
        (seeing(replaced_listed=None), {"a replaced file, listed and opened": "refused"}),
        (seeing(replaced_listed=4.0), {"a replaced file, listed and opened": "warning"}),
        (seeing(new_exists=None, new_opened=None, replaced_opened=None), {}),
    ],
)
def test_only_the_way_in_which_papergrid_looks_must_show_what_others_wrote(evidence, expected):
    assert verdicts(OWN, evidence) == expected
    assert verdicts(replace(evidence, won=OWN.won), OTHER) == expected


@pytest.mark.parametrize(
    ("peer_ahead_s", "other_clock_ahead_s", "expected"),
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
    peer_ahead_s, other_clock_ahead_s, expected
):
    own = replace(OWN, peer_ahead_s=peer_ahead_s)
    assert verdicts(own, replace(OTHER, clock_ahead_s=other_clock_ahead_s)) == expected


@pytest.mark.parametrize("result", ["two holders", "No locks available"])
def test_native_locks_are_only_told_of(result):
    checks = judge(replace(OWN, locks={"flock": result}), OTHER)
    (lock,) = (one for one in checks if one.name == "native lock (flock)")
    assert (lock.verdict, lock.numbers["result"]) == ("ok", result)


def test_a_peer_that_does_not_come_makes_no_meeting_and_leaves_nothing(tmp_path):
    with pytest.raises(IncompleteError, match="the same command on the other host"):
        meet(tmp_path / "meetings", "a", 0.05)
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
    assert check_gpus(Needs(output=tmp_path, runs=runs)).verdict == verdict


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
    needs = Needs(output=tmp_path, data_root=tmp_path / "no", weights=tmp_path / "weights.pt")
    found = {one.name: one for one in check_paths(needs)}
    assert found["data root"].verdict == "refused"
    assert "--data-root" in found["data root"].fix
    assert found["weights"].verdict == "ok"


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
    check: Check = check_disk(Needs(output=tmp_path, disk=need))
    assert check.verdict == verdict
