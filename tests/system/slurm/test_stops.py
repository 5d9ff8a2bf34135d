"""Everything that stops a task on a real SLURM cluster; each ends with an undisturbed run's number.

All scenarios go on at the same time: each test waits for its own.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.slurm_cluster import SlurmCluster, wait_for
from support.slurm_sweeps import STEADY, SentSweep, steady_score, submit

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

NUM_STEPS = 24
MISLEADING = {
    **{"SQUEUE_PARTITION": "low", "SQUEUE_STATES": "PENDING", "SQUEUE_SORT": "S"},
    **{"SLURM_CLUSTERS": "elsewhere", "SLURM_BITSTR_LEN": "4", "SLURM_TIME_FORMAT": "%s"},
    **{"SCANCEL_PARTITION": "low", "SACCT_FORMAT": "User", "SBATCH_WAIT": "1"},
}
"""Variables of a person that change what SLURM's commands do; the tasks inherit them too."""
TORCH_S = 240
"""Patience with trainings: torch takes long to start where many processes do."""
SLOW = ("--set", "pace=0.5", "--set", "save=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stops")


@pytest.fixture(scope="module")
def failing_node(slurm: SlurmCluster, folder) -> SentSweep:
    """A task whose node lost its power after a checkpoint."""
    sent = submit(slurm, folder / "power", "--folds", 0, "--partition", "fragile", *SLOW)
    wait_for((sent.run() / "state.json").exists, "a checkpoint")
    slurm.cut_power(slurm.call("squeue", "-h", "-j", sent.jobs[0], "-o", "%N").strip())
    return sent


@pytest.fixture(scope="module")
def out_of_time(slurm: SlurmCluster, folder) -> SentSweep:
    """A task that needs longer than the minute that it is given."""
    words = ("--folds", 0, "--time", 1, "--signal-s", 30, "--set", "pace=3")
    return submit(slurm, folder / "limit", *words, "--no-merge")


@pytest.fixture(scope="module")
def preempted(slurm: SlurmCluster, folder) -> SentSweep:
    """A task that a job of more priority has pushed away, with some seconds of grace."""
    sent = submit(slurm, folder / "pushed", "--folds", 0, "--partition", "low", *SLOW)
    sent.wait_step()
    slurm.call("sbatch", "-p", "high", "-c", "8", "-o", "/dev/null", "--wrap", "sleep 2")
    return sent


@pytest.fixture(scope="module")
def preempted_for_good(slurm: SlurmCluster, folder) -> SentSweep:
    """A task that SLURM ends for a job of more priority, without grace and without a requeue."""
    sent = submit(slurm, folder / "ended", "--folds", 0, "--partition", "ended", *SLOW)
    sent.wait_step()
    slurm.call("sbatch", "-p", "ending", "-c", "8", "-o", "/dev/null", "--wrap", "sleep 1")
    return sent


@pytest.fixture(scope="module")
def scenarios(failing_node, out_of_time, preempted, preempted_for_good) -> None:
    """All that take long, begun."""


def assert_resumed(sent: SentSweep, fold: int = 0) -> None:
    """It was stopped, went on from a checkpoint, and came to an undisturbed run's number."""
    sent.wait_result(fold)
    starts = [int(line.split()[1]) for line in sent.diary(fold) if line.startswith("start")]
    assert len(starts) >= 2
    assert starts[0] == 0
    assert all(step > 0 for step in starts[1:])
    assert sent.result(fold)["metrics"] == {"score": steady_score(fold, NUM_STEPS)}
    assert not list(sent.run(fold).glob("result.aside-*"))


def test_tasks_that_are_told_to_go_come_back_and_go_on(slurm, scenarios, tmp_path):
    sent = submit(slurm, tmp_path, "--set", "pace=0.5", env=MISLEADING)
    for fold in range(4):
        sent.wait_step(fold)
    assert {run["state"] for run in sent.status().values()} == {"running"}
    slurm.call("scancel", "--signal=USR2", sent.task(0))
    slurm.call("scancel", "--signal=USR2", "--batch", sent.task(1))
    slurm.call("scontrol", "requeue", sent.task(2))
    for fold in range(3):
        assert_resumed(sent, fold)
        assert sent.diary(fold)[1].endswith("by SIGTERM")
        assert sent.attempt(fold)["cause"] == "preempted", "no person cancelled it"
    sent.wait_end()
    assert len(sent.diary(3)) == 1, "the other task was left in peace"
    assert set(slurm.states(sent.jobs[0]).values()) == {"COMPLETED"}


def test_a_preempted_task_writes_its_checkpoint_within_its_grace_and_goes_on(preempted):
    assert_resumed(preempted)
    assert any(line.startswith("stop") for line in preempted.diary())
    assert preempted.attempt()["cause"] == "preempted"


def test_a_task_that_slurm_ends_for_good_requeues_itself_after_its_checkpoint(preempted_for_good):
    """PreemptMode=CANCEL, GraceTime=0: SLURM itself would never start it again."""
    assert_resumed(preempted_for_good)
    assert preempted_for_good.attempt()["cause"] == "preempted"


def test_a_run_that_was_stopped_on_one_node_and_one_that_was_not_on_two_come_to_the_same_numbers(
    slurm, scenarios, tmp_path
):
    sets = ("--set", "epochs=3", "--set", "eval_every=3", "--set", "episodes_per_epoch=32")
    words = ("--debug", "--folds", 0, "--shots", 1, *sets, "--no-merge")
    words = (*words, "--backbones", "efficientnet_lite0")
    spread = submit(
        *(slurm, tmp_path / "spread", *words, "--nodes", 2),
        *("--setup", "export GLOO_SOCKET_IFNAME=lo"),
        study="demo",
    )
    stopped = submit(slurm, tmp_path / "stopped", *words, study="demo")
    path = Path("shapes5i_efficientnet_lite0_1shot", "fold0")
    events = stopped.output / path / "attempts" / "0001" / "events.jsonl"
    wait_for(lambda: events.exists() and '"step"' in events.read_text(), stopped.log, TORCH_S)
    # To every process of the step: torchrun's own answer to it would be to die at once.
    slurm.call("scancel", "--signal=USR2", stopped.task())
    for sent in (stopped, spread):
        wait_for((sent.output / path / "result.json").exists, sent.log, TORCH_S)
    first, second = (
        json.loads((sent.output / path / "result.json").read_text()) for sent in (stopped, spread)
    )
    assert (first["attempt"], second["attempt"]) == (2, 1)
    assert first["metrics"] == second["metrics"]
    attempt = spread.output / path / "attempts" / "0001"
    assert json.loads((attempt / "env.json").read_text())["world_size"] == 2
    ended = json.loads((events.parent / "attempt.json").read_text())
    assert ended["outcome"] == "interrupted"
    spread.wait_end()


def test_a_run_on_two_nodes_is_stopped_as_one_and_goes_on(slurm, scenarios, tmp_path):
    words = ("--folds", 0, "--nodes", 2, "--devices-per-run", 2, "--set", "pace=0.5")
    study = STEADY + "resources: {launcher: torchrun}\n"
    sent = submit(slurm, tmp_path, *words, "--no-merge", study=study)
    sent.wait_step()
    slurm.call("scancel", "--signal=USR2", sent.task())
    sent.wait_result()
    stops = [line for line in sent.diary() if line.startswith("stop")]
    assert len(stops) == 2, "both ranks were asked"
    assert all(line.endswith("by SIGTERM") for line in stops)
    hosts = {line.split()[-1] for line in sent.diary() if line.startswith("start")}
    assert len(hosts) >= 2


def test_a_task_that_reaches_its_time_limit_goes_on_in_the_next(out_of_time):
    assert_resumed(out_of_time)
    assert "the task is queued again" in out_of_time.log()
    assert out_of_time.attempt()["cause"] == "time_limit", out_of_time.log()


def test_a_task_whose_node_lost_its_power_goes_on_elsewhere(slurm, failing_node):
    assert_resumed(failing_node)
    hosts = [line.split()[-1] for line in failing_node.diary() if line.startswith("start")]
    assert hosts[0] != hosts[-1]
    first = json.loads((failing_node.run() / "claim-0001.json").read_text())
    assert first["released"] is False, "its owner had no time to release it"
    last = sorted((failing_node.run() / "attempts").glob("*/attempt.json"))[-1]
    assert json.loads(last.read_text())["took_over"]["cause"] == "node_failure"


def test_no_process_is_left_when_the_tasks_have_ended(scenarios, preempted, out_of_time, folder):
    preempted.wait_end()
    out_of_time.wait_end()
    needles = [f"PAPERGRID_RUN_DIR={sent.output}".encode() for sent in (preempted, out_of_time)]
    left = [
        process
        for process in Path("/proc").glob("[0-9]*")
        if any(needle in environment_of(process) for needle in needles)
    ]
    assert left == []


def environment_of(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
