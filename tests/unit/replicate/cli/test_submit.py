"""`replicate submit`: what is refused before anybody is asked."""

from __future__ import annotations

import json
import os
import shlex

import pytest
from support import fake_slurm
from support.studies import TOY, write_experiment

from merge.storage.json_files import read_json, write_json
from replicate import api
from replicate.cli.main import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--servers", "hosts.yaml", "--partition", "gpu"),
            "--partition has no effect with --servers",
        ),
        (("--slurm", "--print-commands"), "--print-commands has no effect with --slurm"),
        (("--slurm", "--hosts", "gpu1"), "--hosts has no effect with --slurm"),
        (("--slurm", "--stand-by"), "--stand-by is for this machine"),
        (("--slurm", "--devices", "cpu"), "--devices is for this machine"),
        (("--slurm", "--grace", "5"), "--grace is for this machine"),
        (("--servers", "absent.yaml"), "absent.yaml cannot be read"),
        (("--servers", "hosts.yaml", "--hosts", "gpu11"), "no host 'gpu11': did you mean 'gpu1'?"),
        (
            ("--servers", "hosts.yaml", "--claims", "s3://b-1/p", "--snapshot"),
            "--snapshot copies the code into the output folder",
        ),
    ],
)
def test_flags_that_would_have_no_effect_are_refused(tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.yaml").write_text("hosts: [gpu1, gpu2]\n")
    assert main(["submit", *words]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["hosts.yaml"]


def test_a_dry_run_for_chosen_hosts_prints_their_commands_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.yaml").write_text("hosts: [gpu1, gpu2]\n")
    assert main(["submit", "--servers", "hosts.yaml", "--hosts", "gpu2", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "-- gpu2 'exec bash" in printed
    assert "gpu1" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["hosts.yaml"]


@pytest.mark.parametrize(
    "words",
    [
        ["--max-retries", "0"],
        ["--restart-stalled", "5.0"],
        ["--runs-per-gpu", "2"],
        ["--retry-cancelled"],
        ["--claims", "s3://papers/abcb"],
        ["--aws-profile", "lab", "--claims", "s3://papers/abcb"],
    ],
)
def test_what_is_asked_of_a_machine_is_passed_on_to_the_workers(
    tmp_path, monkeypatch, capsys, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.yaml").write_text("hosts: [gpu1]\n")
    assert main(["submit", "--servers", "hosts.yaml", "--dry-run", *words]) == 0
    (worker,) = [line for line in capsys.readouterr().out.splitlines() if "setsid" in line]
    given = shlex.split(worker)
    assert not {*words} - {*given}


@pytest.fixture
def no_cluster(tmp_path, monkeypatch):
    """SLURM's commands are on PATH, and no cluster answers them."""
    folder = tmp_path / "slurm"
    monkeypatch.setenv("PATH", f"{fake_slurm.install(folder)}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    (folder / "config").unlink()
    (folder / "refuse").write_text("1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("no_cluster")
def test_a_dry_run_shows_the_scripts_without_a_cluster_for_the_default_array_size(tmp_path, capsys):
    assert main(["submit", "--slurm", "--study", "demo", "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "#SBATCH --array=0-7" in printed.out
    assert "MaxArraySize, 1001" in printed.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.usefixtures("no_cluster")
def test_a_real_submission_without_a_cluster_writes_nothing_and_says_where_to_go(tmp_path, capsys):
    assert main(["submit", "--slurm", "--study", "demo"]) == 75
    assert "Nothing was written or sent: submit where" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_flags_about_attempts_reach_the_tasks_unless_they_say_nothing_new(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["submit", "--slurm", "--study", "demo", "--dry-run"]
    given = ["--max-retries", "0", "--restart-stalled", "5", "--claim-expiry", "30"]
    assert main([*words, *given, "--runs-per-gpu", "2"]) == 0
    shown = capsys.readouterr().out
    wanted = "--max-retries 0 --restart-stalled 5.0 --runs-per-gpu 2 --claim-expiry 30.0"
    assert wanted in shown
    assert main([*words, "--runs-per-gpu", "1"]) == 0
    shown = capsys.readouterr().out
    assert "--runs-per-gpu" not in shown
    assert "--claim-expiry" not in shown


@pytest.mark.usefixtures("no_cluster")
def test_no_more_tasks_are_sent_than_there_are_runs(capsys):
    words = ["submit", "--slurm", "--study", "demo", "--dry-run", "--json"]
    assert main([*words, "--tasks", "9" * 20]) == 0
    (tasks,) = json.loads(capsys.readouterr().out)["tasks"].values()
    assert len(tasks) == 8


def test_each_python_of_the_nodes_is_asked_about_its_own_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_experiment(tmp_path / "toy")
    (tmp_path / "toy" / "options.py").touch()
    (tmp_path / "toy" / "task.py").touch()
    (tmp_path / "toy" / "check.py").write_text(
        "from experiments.runtime.check import Problem\n\n"
        "def problems(configs, places):\n"
        "    yield Problem('folds', str(sorted(each['fold'] for each in configs)))\n"
    )
    elsewhere = "overrides: [{when: {fold: [1, 3]}, set: {}, resources: {slurm: {python: /no/py}}}]"
    text = TOY.replace("experiment: toy", "experiment: ./toy").replace("shot: [1, 5]", "shot: [1]")
    (tmp_path / "s.yaml").write_text(f"{text}{elsewhere}\n")
    words = ["submit", "--slurm", "--dry-run", "--study", "s.yaml", "--output-dir", "out"]
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert "nothing was started: " in printed
    assert "folds: [0, 2]" in printed


@pytest.mark.parametrize("where", [("--slurm",), ("--servers", "hosts.yaml")])
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_runs_that_were_changed_in_the_plan_are_refused_by_name(
    tmp_path, monkeypatch, capsys, where, more
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.yaml").write_text("hosts: [gpu1]\n")
    output = tmp_path / "out"
    planned = api.plan("demo")
    api.freeze_plan(planned, output)
    document = read_json(output / "sweep.json")
    changed, other = (run.run_id for run in planned.runs[:2])
    next(run for run in document["runs"] if run["run_id"] == changed)["config"]["fold"] = 1
    write_json(output / "sweep.json", document)
    before = (output / "sweep.json").read_bytes()
    words = ["submit", "--study", "demo", "--output-dir", str(output), *where, *more]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"nothing was submitted: {output / 'sweep.json'}:" in said
    assert f"for {changed}, but its configuration" in said
    assert other not in said
    assert "restore it" in said
    assert [path.name for path in output.iterdir()] == ["sweep.json"]
    assert (output / "sweep.json").read_bytes() == before


@pytest.mark.parametrize("is_checked", [True, False])
def test_a_server_without_weights_and_data_is_refused_with_all_it_lacks(
    tmp_path, monkeypatch, capsys, is_checked
):
    """ssh here runs the script on this machine, which has no GPU 7: no worker starts."""
    monkeypatch.chdir(tmp_path)
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\nexec bash --noprofile --norc -s\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    (tmp_path / "hosts.yaml").write_text(f"hosts: [gpu1]\ndefaults: {{cache_dir: {tmp_path}/c}}\n")
    words = ["submit", "--servers", "hosts.yaml", "--study", "abcb", "--output-dir", "out"]
    more = [] if is_checked else ["--no-check"]
    assert main([*words, "--devices", "7", *more]) == 2
    said = capsys.readouterr().err
    assert "gpu1: --devices: no GPU '7' here" in said
    lacked = [f"gpu1: {name}: " for name in ("resnet50", "pascal5i", "coco20i")]
    assert [text in said for text in lacked] == [is_checked] * 3
    assert not list((tmp_path / "out").iterdir())
