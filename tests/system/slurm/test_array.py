"""Submitting to a real SLURM cluster: arrays, their limits, names, states, cancelling."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import replicate
from support.slurm_cluster import MAX_ARRAY_SIZE, wait_for
from support.slurm_sweeps import STEADY, submit
from support.tested_again import OUTPUT, evaluate, result_of, train

from merge.storage.json_files import read_json
from orchestrator.slurm.cancel import CancelledTasks, cancel_tasks

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

QUICK = """\
name: quick
command: [bash, -c, {command}]
axes: {{fold: [{values}]}}
average_over: fold
metric: score
cell: quick
run_path: "{{cell}}/fold{{fold}}"
"""
LEAVE = 'echo "{\\"metrics\\": {\\"score\\": 1}}" > "$PAPERGRID_ATTEMPT_DIR/result.json"'


def quick(values: object, command: str = LEAVE) -> str:
    """A study whose runs end at once."""
    listed = ", ".join(json.dumps(value) for value in values)
    return QUICK.format(command=json.dumps(command), values=listed)


def test_an_evaluation_of_finished_trainings_is_an_array_like_any_other(slurm, tmp_path):
    """Its tasks find the checkpoint below the folder of the trainings, and a job merges it."""
    train(tmp_path, "--where", "seed=0")
    words = ("--slurm", "--where", "seed=0", "--set", "num_tests=7", "--json")
    sent = json.loads(evaluate(tmp_path, *words, env=slurm.environment).stdout)
    merge_job = sent["merge"]["job_id"]
    output = tmp_path / OUTPUT / "evaluations" / "num_tests=7"
    wait_for(
        # It ends with 3, as the cell lacks the other seed.
        lambda: slurm.states(merge_job) == {merge_job: "FAILED"},
        lambda: f"the merge: {slurm.states(merge_job)}",
        300,
    )
    result = result_of(output, 0)
    assert result["details"]["num_tests"] == 7
    view = read_json(output / "replication_results.json")
    assert view["results"]["width4"]["0"] == result["metrics"]


def test_the_demo_grid_as_an_array_ends_merged_and_keeps_its_throttle(slurm, tmp_path):
    words = ("--debug", "--devices-per-run", 1, "--max-parallel", 2)
    sent = submit(slurm, tmp_path, *words, study="demo")
    most = 0

    def is_merged() -> bool:
        nonlocal most
        states = list(slurm.states(sent.jobs[0]).values())
        most = max(most, states.count("RUNNING") + states.count("COMPLETING"))
        return slurm.states(sent.jobs[1]) == {sent.jobs[1]: "COMPLETED"}

    wait_for(is_merged, lambda: f"the merge: {sent.log()}", 500)
    assert most == 2
    merged = read_json(sent.output / "replication_results.json")
    assert [cell["n"] for cell in merged["results"].values()] == [2, 2, 2, 2]
    assert {run["state"] for run in sent.status().values()} == {"done"}


def test_an_array_larger_than_the_limit_is_cut_and_one_run_is_an_array_too(slurm, tmp_path):
    study = quick(range(MAX_ARRAY_SIZE + 1))
    sent = submit(slurm, tmp_path, study=study)
    first, second, _ = sent.jobs
    assert len(slurm.states(first)) == MAX_ARRAY_SIZE
    assert list(slurm.states(second)) == [f"{second}_0"]
    sent.wait_end()
    assert {run["state"] for run in sent.status().values()} == {"done"}


def test_a_task_that_runs_again_after_its_result_changes_nothing(slurm, tmp_path):
    sent = submit(slurm, tmp_path, "--no-merge", study=quick([0]))
    sent.wait_end()
    result = sent.output / "quick" / "fold0" / "result.json"
    before = result.read_bytes()
    slurm.call("scontrol", "requeue", sent.task())
    wait_for(lambda: "already done" in sent.log(), sent.log)
    slurm.wait_state(sent.task(), "COMPLETED")
    assert result.read_bytes() == before
    assert [path.name for path in (result.parent / "attempts").iterdir()] == ["0001"]


def test_runs_that_are_done_or_queued_are_not_sent_again(slurm, tmp_path):
    words = ("--set", "pace=0.1", "--no-merge")
    sent = submit(slurm, tmp_path, "--folds", 0, *words)
    sent.wait_end()
    held = submit(
        slurm, tmp_path, "--folds", 1, *words, "--partition", "main", "--cpus-per-task", 8
    )
    again = replicate(
        *("submit", "--slurm", "--study", "study.yaml", "--output-dir", "out", "--folds", 0, 1),
        *words,
        cwd=tmp_path,
        env=slurm.environment,
    )
    assert again.returncode == 0, again.stderr
    assert "1 runs are done already" in again.stderr
    assert f"1 runs are queued already: {held.task()}" in again.stderr
    assert "nothing to submit" in again.stderr
    slurm.call("scancel", held.jobs[0])


def test_names_and_values_reach_neither_a_shell_nor_a_folder_outside(slurm, tmp_path):
    evil = [
        "a b",
        "it's",
        'say "x"',
        "$(touch PWNED)",
        "`touch PWNED2`",
        "x\ny",
        "../../up",
        "50%j",
    ]
    folder = tmp_path / "it's $(touch PWNED) 100%j #1"
    script = 'printf "%s" "$PAPERGRID_CONFIG_FOLD" > "$PAPERGRID_RUN_DIR/seen"; ' + LEAVE
    sent = submit(slurm, folder, study=quick(evil, script), output='o ut"')
    sent.wait_end()
    seen = sorted(path.read_text() for path in sent.output.glob("quick/*/seen"))
    assert seen == sorted(evil), sent.log()
    assert len(list(sent.output.glob("submissions/*/logs/*.log"))) == len(evil) + 1
    outside = [path for path in tmp_path.rglob("*") if folder not in (path, *path.parents)]
    assert outside == []
    assert not list(tmp_path.rglob("PWNED*"))
    assert sorted(path.name for path in folder.iterdir()) == ['o ut"', "study.yaml"]


def test_a_cancelled_task_shows_as_cancelled_soon_and_the_others_go_on(slurm, tmp_path):
    sent = submit(slurm, tmp_path, "--folds", 0, 1, "--set", "pace=0.5")
    sent.wait_step(0)
    slurm.call("scancel", sent.task(0))
    wait_for(
        lambda: sent.status()["steady-fold0"]["state"] == "cancelled",
        lambda: str(sent.status()),
        30,
    )
    assert f"by scancel (SLURM task {sent.task(0)})" in sent.status()["steady-fold0"]["reason"]
    slurm.wait_state(sent.task(0), "CANCELLED")
    assert sent.attempt(0)["cause"] == "cancelled"
    sent.wait_result(1)
    again = submit(slurm, tmp_path, "--folds", 0, 1, "--set", "pace=0.5", "--no-merge")
    again.wait_result(0)
    assert int(again.diary(0)[-1].split()[1]) > 0, "it went on from its checkpoint"


def teammate(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`replicate words` by a user who may read and write all files, and see no jobs of others."""
    keep = "+dac_override,+dac_read_search"
    return subprocess.run(
        [
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *(f"--inh-caps={keep}", f"--ambient-caps={keep}", "--"),
            *(sys.executable, "-m", "replicate.cli.main", *map(str, words)),
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_queued_runs_are_told_and_cancelled_by_run(slurm, tmp_path, monkeypatch):
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    words = ("--max-parallel", 1, "--tasks", 2, "--set", "pace=0.5")
    sent = submit(slurm, tmp_path, *words)
    sent.wait_step(0)
    status = sent.status()
    first, second = sent.task(0), sent.task(1)
    assert status["steady-fold0"]["state"] == "running"
    assert f"SLURM task {first}, running on node" in status["steady-fold2"]["reason"]
    assert f"queued in SLURM as {second} (" in status["steady-fold1"]["reason"]
    assert {status[f"steady-fold{fold}"]["state"] for fold in (1, 2, 3)} == {"pending"}

    told = teammate("status", "out", "--json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    seen = {run["run_id"]: run for run in json.loads(told.stdout)["runs"]}
    assert [seen[f"steady-fold{fold}"]["state"] for fold in range(4)] == [
        "running",
        *["unknown"] * 3,
    ]
    assert "root submitted it" in seen["steady-fold1"]["reason"]
    line = ("submit", "--slurm", "--study", "study.yaml", "--output-dir", "out", *words)
    # access() leaves out the capabilities with which this user starts the test's Python.
    told = teammate(*line, "--no-check", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "4 runs may still be in SLURM's queue and are not sent again" in told.stderr
    assert "nothing to submit" in told.stderr

    one = cancel_tasks(sent.output, ["steady-fold1"])
    assert one == CancelledTasks(), "its task has another run to do"
    assert cancel_tasks(sent.output, ["steady-fold1", "steady-fold3"]).ended == (second,)
    wait_for(
        lambda: sent.status()["steady-fold3"]["reason"].startswith("by scancel"),
        lambda: str(sent.status()),
    )
    assert list(cancel_tasks(sent.output, list(status)).stopping) == [first]
    assert cancel_tasks(sent.output, list(status), kill=True).ended == (first,)
    sent.wait_end()


def test_a_controller_that_is_down_makes_queued_runs_unknown_not_failed(slurm, tmp_path):
    sent = submit(slurm, tmp_path, "--folds", 0, 1, "--max-parallel", 1, "--set", "pace=0.5")
    sent.wait_step(0)
    nowhere = tmp_path / "slurm.conf"
    text = (slurm.folder / "slurm.conf").read_text()
    port = next(line for line in text.splitlines() if line.startswith("SlurmctldPort"))
    nowhere.write_text(text.replace(port, "SlurmctldPort=1"))
    told = replicate(
        "status", sent.output, "--json", cwd=tmp_path, env={**os.environ, "SLURM_CONF": nowhere}
    )
    assert told.returncode == 0, told.stderr
    states = {run["run_id"]: run["state"] for run in json.loads(told.stdout)["runs"]}
    assert states["steady-fold0"] == "running"
    assert states["steady-fold1"] == "unknown"
    assert states["steady-fold2"] == "pending"
    slurm.call("scancel", sent.jobs[0])


def test_a_dry_run_shows_the_text_that_is_sent(slurm, tmp_path):
    (tmp_path / "study.yaml").write_text(STEADY)
    words = ("submit", "--slurm", "--study", "study.yaml", "--output-dir", "out", "--folds", 0)
    shown = replicate(*words, "--dry-run", "--json", cwd=tmp_path, env=slurm.environment)
    assert shown.returncode == 0, shown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
    document = json.loads(shown.stdout)
    sent = submit(slurm, tmp_path, "--folds", 0)
    (folder,) = (sent.output / "submissions").iterdir()
    for name, text in document["scripts"].items():
        written = (folder / f"{name}.sbatch").read_text()
        assert written == text.replace(document["id"], folder.name)
    slurm.call("scancel", *sent.jobs)
