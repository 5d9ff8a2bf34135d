"""Two hosts, one folder on a real NFS server: claims, takeovers, merging, with locks or without."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from support.grids import make_grid
from support.grids import write_sweep as write_grid
from support.nfs_lab import NfsLab, skip_without_nfs
from support.sweeps import make_sweep, shell, write_sweep

from merge.records.records import Outcome, read_attempt, read_claim
from merge.records.result import read_result
from merge.storage.json_files import read_json
from merge.storage.paths import RunPaths, SweepPaths

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

NUM_RUNS = 6
NUM_CONTESTED = 40
NUM_CELLS = 5

CHECKPOINTED = """
state="$PAPERGRID_RUN_DIR/checkpoints/state"
mkdir -p "$PAPERGRID_RUN_DIR/checkpoints"
if [ -e "$state" ]; then score=$(cat "$state"); else score=$1; fi
if [ "$(uname -n)" = c1 ]; then
  echo "7$1" > "$state"; sync "$state"
  until ls "$PAPERGRID_RUN_DIR" | grep -q "^go$"; do sleep 0.2; done
fi
printf '{"metrics": {"score": %s}}' "$score" > "$PAPERGRID_ATTEMPT_DIR/result.json"
"""
"""On host c1 it writes a checkpoint and waits; elsewhere it goes on from one, if there is one."""

WORKERS = """
cp -r plan /mnt/srv/sweep
work() {
  on $1 $python -m replicate work /mnt/c$1/sweep --devices cpu:1 --cache-dir /run/cache$1 \\
    --stand-by --claim-expiry 5
}
work 1 >worker1 2>&1 & first=$!
until_true 60 test -e /mnt/srv/sweep/run/fold0/checkpoints/state
work 2 >worker2 2>&1 & second=$!
until_true 60 test -e /mnt/srv/sweep/run/fold5/result.json
"""
"""Host c1 waits in the first run, c2 has done all others."""

CONTEST = f"""
mkdir -p /mnt/srv/contest
for n in 1 2 1 2; do
  on $n $python -S $drive /mnt/c$n/contest {NUM_CONTESTED} c$n 0 5 0.01 &
  claimants="$claimants $!"
done
for process in $claimants; do wait $process; done
cp -r /mnt/srv/contest .
"""
"""Two processes on each host race for the same runs in the same order."""

MERGERS = """
cp -r grid /mnt/srv/grid
for start in 0 1 2 3; do
  n=$((start % 2 + 1))
  on $n $python $merge /mnt/c$n/grid $start 4 &
  mergers="$mergers $!"
done
for process in $mergers; do wait $process; done
cp -r /mnt/srv/grid .
"""
"""Two processes on each host finish runs and merge after each."""

DOCTORS = """
for n in 1 2; do
  on $n $python -m replicate doctor /mnt/c$n/proof --only folder --wait-for-peer --json \\
    --patience ${patience:-150} >doctor$n.json &
  doctors="$doctors $!"
done
refused=0
for process in $doctors; do wait $process || refused=$((refused + 1)); done
echo $refused >refused
"""
"""Each host proves the folder with the other one."""


@pytest.fixture
def lab(tmp_path) -> NfsLab:
    skip_without_nfs()
    return NfsLab(tmp_path / "lab")


@pytest.fixture
def plan(lab) -> Path:
    """The frozen plan that the scenarios put onto the server as /mnt/srv/sweep."""
    return write_sweep(lab.folder / "plan", make_sweep(shell(CHECKPOINTED), folds=NUM_RUNS))


@pytest.fixture
def grid(lab) -> None:
    """The plan that the scenarios put onto the server as /mnt/srv/grid."""
    write_grid(lab.folder / "grid", make_grid(cells=tuple(f"cell{n}" for n in range(NUM_CELLS))))


def check_contest(folder: Path) -> None:
    executed = Counter(path.name.partition(".")[0] for path in (folder / "executed").glob("r*"))
    assert len(executed) == NUM_CONTESTED
    assert set(executed.values()) == {1}
    for number in range(NUM_CONTESTED):
        paths = RunPaths(folder / f"r{number:04d}")
        assert read_result(paths.result)
        assert paths.results_aside() == []


def check_view(folder: Path, num_results: int = NUM_RUNS) -> None:
    view = read_json(SweepPaths(folder).results)
    (cell,) = view["results"].values()
    assert cell["n"] == num_results


def check_grid(lab: NfsLab) -> None:
    view = read_json(SweepPaths(lab.folder / "grid").results)
    assert {cell["n"] for cell in view["results"].values()} == {4}
    assert len(view["results"]) == NUM_CELLS


def findings(lab: NfsLab) -> dict[str, str]:
    """Check -> what host c1 found, where both say alike whether the folder can be used."""
    first, second = (json.loads((lab.folder / f"doctor{n}.json").read_text()) for n in (1, 2))
    assert first["refused"] == second["refused"]
    assert (lab.folder / "refused").read_text() == f"{2 * first['refused']}\n"
    return {check["name"]: f"{check['verdict']}: {check['finding']}" for check in first["checks"]}


def test_on_nfs_4_the_run_of_a_killed_host_is_taken_over_and_goes_on(lab, plan, grid):
    killed = "kill -9 $first; wait $second; cp -r /mnt/srv/sweep ."
    lab.run("4.2", WORKERS + killed + CONTEST + MERGERS + DOCTORS)
    paths = RunPaths(lab.folder / "sweep" / "run" / "fold0")
    lost, done = (read_claim(paths.claim(number)) for number in (1, 2))
    assert (lost.owner.host, done.owner.host) == ("c1", "c2")
    assert read_attempt(paths.attempt(1).record).outcome is None
    result = read_result(paths.result)
    assert (result.metrics, result.token) == ({"score": 70}, done.token)
    for fold in range(1, NUM_RUNS):
        others = RunPaths(lab.folder / "sweep" / "run" / f"fold{fold}")
        assert others.claim_numbers() == [1]
        assert read_result(others.result).metrics == {"score": fold}
    check_view(lab.folder / "sweep")
    check_contest(lab.folder / "contest")
    check_grid(lab)
    found = findings(lab)
    assert "nfs4 on /mnt/c1 vers=4.2" in found["file system"]
    assert found["native lock (flock)"].startswith("ok: excludes")
    assert not any(finding.startswith("refused") for finding in found.values())


def test_on_nfs_3_without_locks_every_run_has_one_result_and_a_late_one_is_kept_aside(
    lab, plan, grid
):
    paused = """
    executor=$(pgrep -f '^[^ ]*python -m replicate work /mnt/c1/sweep')
    kill -STOP $executor
    wait $second
    touch /mnt/srv/sweep/run/fold0/go
    until_true 60 test -e /mnt/srv/sweep/run/fold0/attempts/0001/result.json
    kill -CONT $executor
    wait $first || [ $? = 1 ]
    cp -r /mnt/srv/sweep .
    """
    lab.run("3,nolock", WORKERS + paused + CONTEST + MERGERS + DOCTORS)
    paths = RunPaths(lab.folder / "sweep" / "run" / "fold0")
    assert read_result(paths.result).attempt == 2
    assert read_attempt(paths.attempt(1).record).outcome is Outcome.LOST
    (aside,) = paths.results_aside()
    assert read_result(aside).attempt == 1
    for fold in range(1, NUM_RUNS):
        others = RunPaths(lab.folder / "sweep" / "run" / f"fold{fold}")
        assert others.claim_numbers() == [1]
    check_view(lab.folder / "sweep")
    check_contest(lab.folder / "contest")
    check_grid(lab)
    found = findings(lab)
    assert "nfs on /mnt/c1" in found["file system"]
    assert found["native lock (flock)"].startswith("ok: two holders")
    assert not any(finding.startswith("refused") for finding in found.values())


def test_on_nfs_3_where_locks_are_refused_claims_exclude_and_merging_is_right(lab, grid):
    lab.run("3", CONTEST + MERGERS + DOCTORS)
    check_contest(lab.folder / "contest")
    check_grid(lab)
    found = findings(lab)
    assert found["native lock (flock)"].startswith("ok: No locks available")
    assert not any(finding.startswith("refused") for finding in found.values())


def test_doctor_refuses_a_mount_whose_client_does_not_ask_the_server(lab):
    lab.run("3,nolock,nocto,actimeo=600", "patience=15\n" + DOCTORS)
    assert findings(lab)["two processes meet"].startswith("refused")
