"""`replicate evaluate`: finished trainings tested again, beside their own results."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest
from support.bucket_trees import objects
from support.commands import MarkedCommand, replicate
from support.s3_server import BUCKET, environment, ministack
from support.tested_again import OUTPUT, evaluate, result_of, train

from merge.storage.json_files import read_json
from replicate import api
from replicate.cli.main import main

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

MORE = ("--set", "num_tests=400", "--set", "test_seeds=3,4")
MORE_NAME = "num_tests=400-test_seeds=3+4"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sweep of two trainings, and its merged view before anything was evaluated."""
    folder = tmp_path_factory.mktemp("sweep")
    train(folder)
    return folder, (folder / OUTPUT / "replication_results.json").read_bytes()


@pytest.fixture(scope="module")
def evaluated(trained):
    """The same under its own settings, and on more items, each run with two ranks."""
    folder, before = trained
    evaluate(folder, "--devices", "cpu:2")
    evaluate(folder, *MORE, "--devices", "cpu:2", "--devices-per-run", 2, "--where", "seed=0,1")
    return folder, before


def test_under_its_own_settings_a_training_scores_what_it_scored(evaluated):
    folder, _ = evaluated
    for seed in (0, 1):
        own = result_of(folder / OUTPUT, seed)
        again = result_of(folder / OUTPUT / "evaluations" / "own-settings", seed)
        assert again["metrics"] == own["metrics"]
        assert again["details"]["tested"] == own["details"]["best"]
        assert again["config_hash"] != own["config_hash"]
        assert len(again["details"]["checkpoint"]["sha256"]) == 64


def test_the_table_of_the_trainings_stays_as_it_was_and_evaluations_stand_behind_it(evaluated):
    folder, before = evaluated
    view = (folder / OUTPUT / "replication_results.json").read_bytes()
    # All but the closing lines: a key follows.
    assert view.startswith(before.removesuffix(b"\n}\n"))
    found = json.loads(view)["evaluations"]
    assert list(found) == [MORE_NAME, "own-settings"]
    assert found["own-settings"]["results"]["width4"]["complete"]


def test_more_test_items_narrow_the_interval(evaluated):
    folder, _ = evaluated
    found = read_json(folder / OUTPUT / "replication_results.json")["evaluations"]
    widths = {}
    for name, view in found.items():
        interval = view["results"]["width4"]["ci"]
        widths[name] = interval["high"] - interval["low"]
    # Twenty times as many items.
    assert widths[MORE_NAME] < widths["own-settings"] / 2


def test_status_merge_report_and_the_api_show_evaluations_as_rows_of_their_own(evaluated, capsys):
    folder, _ = evaluated
    heading = f"evaluation {MORE_NAME}: num_tests 400, test_seeds 3,4 (best checkpoint), 2 of 2"
    for verb in ("status", "merge"):
        assert main([verb, str(folder / OUTPUT)]) == 0
        assert heading in capsys.readouterr().out
    paths = api.report(folder / OUTPUT, forms=("md",))
    text = paths["md"].read_text()
    assert "## Evaluated again: num_tests 400, test_seeds 3,4 (best checkpoint)" in text
    merged = api.merge(folder / OUTPUT)
    again = api.merge(folder / OUTPUT / "evaluations" / MORE_NAME)
    assert merged.evaluations[MORE_NAME].document["results"] == again.document["results"]
    frame = api.to_pandas(merged.document["evaluations"][MORE_NAME])
    assert list(frame["details.num_tests"]) == [400, 400]
    assert len(api.to_pandas(merged.document)) == 2


def test_views_that_are_merged_keep_their_evaluations(evaluated, tmp_path):
    folder, _ = evaluated
    whole = api.merge(folder / OUTPUT).document
    again = api.merge(folder / OUTPUT / "replication_results.json", into=tmp_path / "merged.json")
    assert again.document["evaluations"] == whole["evaluations"]


def test_the_same_command_again_repeats_nothing(evaluated):
    folder, _ = evaluated
    evaluate(folder, *MORE, "--device", "cpu")
    attempts = folder.glob(f"{OUTPUT}/evaluations/{MORE_NAME}/width4/*/attempts/*")
    assert sorted(path.name for path in attempts) == ["0001", "0001"]


def test_a_killed_evaluation_is_continued_by_the_same_command(evaluated, tmp_path):
    folder, _ = evaluated
    slow = (*MORE, "--name", "killed", "--set", "checkpoint_every_s=0.2")
    words = ("evaluate", OUTPUT, *slow, "--set", "pause_s=0.02", "--devices", "cpu:2")
    command = MarkedCommand(words, folder)
    process = command.start(tmp_path / "log")
    there = folder / OUTPUT / "evaluations" / "killed"
    deadline = time.monotonic() + 120
    while len(list(there.glob("width4/*/checkpoints/last.pt"))) < 2:
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for pid in command.processes():
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert not list(there.glob("width4/*/result.json"))
    evaluate(folder, *slow, "--devices", "cpu:2")
    for seed in (0, 1):
        whole = result_of(folder / OUTPUT / "evaluations" / MORE_NAME, seed)
        assert result_of(there, seed)["metrics"] == whole["metrics"]
        assert result_of(there, seed)["attempt"] == 2
    shutil.rmtree(there)


def test_a_changed_checkpoint_is_refused_by_its_hash(evaluated, monkeypatch, capsys):
    folder, _ = evaluated
    monkeypatch.chdir(folder)
    path = OUTPUT / "width4" / "seed0" / "checkpoints" / "best.pt"
    kept = path.read_bytes()
    path.write_bytes(kept + b"!")
    try:
        assert main(["evaluate", str(OUTPUT), "--device", "cpu"]) == 2
    finally:
        path.write_bytes(kept)
    message = capsys.readouterr().err
    assert "SHA-256 of ../../width4/seed0/checkpoints/best.pt" in message
    assert "width4-seed0" in message
    assert "--name of its own" in message


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--set", "num_test=3"], 2, "no such key: did you mean 'num_tests'?"),
        (["--set", "lr=3"], 2, "lr decides the training, which is over"),
        (["--set", "seed=1"], 2, "seed is an axis of this study"),
        (["--set", "num_tests=0"], 2, "must be at least 1"),
        (["--checkpoint", "gone.pt"], 2, "is not there: name best, last or a checkpoint file"),
        (["--checkpoint", "study.yaml"], 2, "is the model of one run, and 2 are selected"),
        (["--name", "../up"], 2, "write letters, digits"),
        (["--where", "seed=7"], 2, "seed has no value '7'"),
        (["--partition", "gpu"], 2, "--partition has no effect with no --slurm"),
        (["--device", "cpu", "--devices", "cpu:2"], 2, "--device and --devices mean the same"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_starts(
    evaluated, monkeypatch, capsys, words, code, message
):
    folder, _ = evaluated
    monkeypatch.chdir(folder)
    before = sorted((folder / OUTPUT / "evaluations").iterdir())
    assert main(["evaluate", str(OUTPUT), *words]) == code
    assert message in capsys.readouterr().err
    assert sorted((folder / OUTPUT / "evaluations").iterdir()) == before


def test_a_folder_of_the_wrong_kind_is_named(evaluated, monkeypatch, capsys, tmp_path):
    folder, _ = evaluated
    monkeypatch.chdir(folder)
    assert main(["evaluate", str(OUTPUT / "evaluations" / "own-settings")]) == 2
    assert f"name the folder of the trainings ({OUTPUT})" in capsys.readouterr().err
    study = "name: c\ncommand: ['true']\naxes: {seed: [0]}\naverage_over: seed\nmetric: x\n"
    (tmp_path / "study.yaml").write_text(study)
    api.freeze_plan(api.plan(tmp_path / "study.yaml"), tmp_path / "command")
    assert main(["evaluate", str(tmp_path / "command")]) == 2
    assert "holds runs of a `command:`" in capsys.readouterr().err


def test_unfinished_trainings_and_lost_checkpoints_are_named(evaluated, tmp_path, monkeypatch):
    """A copy of the sweep without one result; the other's best model is gone."""
    folder, _ = evaluated
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.rmtree(OUTPUT / "evaluations")
    (OUTPUT / "width4" / "seed1" / "result.json").unlink()
    found = api.plan_evaluation(OUTPUT, set={"num_tests": 5})
    assert found.unfinished == ("width4-seed1",)
    # The plan has it all the same: a mean over one seed must not pass for the mean.
    api.freeze_plan(found.plan, found.output)
    (cell,) = api.merge(found.output).document["cells_without_results"]
    assert cell == "width4"
    assert [run.run_id for run in api.frozen_plan(found.output).runs] == ["width4-seed0"]
    (OUTPUT / "width4" / "seed0" / "checkpoints" / "best.pt").unlink()
    assert main(["evaluate", str(OUTPUT)]) == 3
    assert main(["evaluate", str(OUTPUT), "--where", "seed=1"]) == 3


def test_a_training_that_ends_later_joins_its_evaluation(evaluated, tmp_path, monkeypatch):
    folder, _ = evaluated
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.rmtree(OUTPUT / "evaluations")
    result = OUTPUT / "width4" / "seed1" / "result.json"
    result.rename(tmp_path / "result.json")
    early = api.plan_evaluation(OUTPUT)
    api.freeze_plan(early.plan, early.output)
    (tmp_path / "result.json").rename(result)
    late = api.plan_evaluation(OUTPUT)
    planned = api.freeze_plan(late.plan, late.output)
    assert [run.checkpoint.is_ready for run in planned.runs] == [True, True]
    assert [run.config_hash for run in planned.runs] == [
        r.config_hash for r in late.plan.sweep.runs
    ]


def test_eval_only_of_run_is_the_same_evaluation(evaluated, monkeypatch, capsys):
    folder, _ = evaluated
    monkeypatch.chdir(folder)
    words = ["run", "--study", "study.yaml", "--device", "cpu", "--dry-run"]
    assert main([*words, "--eval-only", *MORE]) == 0
    assert f"{OUTPUT}/evaluations/{MORE_NAME}/width4/seed0" in capsys.readouterr().out
    assert main([*words, "--checkpoint", "last"]) == 2
    assert "add --eval-only" in capsys.readouterr().err


def test_an_evaluation_is_sent_below_the_place_of_its_trainings(evaluated, tmp_path):
    folder, _ = evaluated
    with ministack(tmp_path / "s3") as server:
        words = ("--where", "seed=0", "--set", "num_tests=7", "--device", "cpu")
        place = ("--sync", f"s3://{BUCKET}/study", *server.flags)
        env = environment(tmp_path)
        evaluate(folder, *words, *place, env=env)
        there = objects(server.client(), "study")
        trainings = (OUTPUT, f"s3://{BUCKET}/study", *server.flags)
        assert replicate("sync", "push", *trainings, cwd=folder, env=env).returncode == 0
        verified = replicate("sync", "verify", *trainings, "--json", cwd=folder, env=env)
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["foreign"] == []
    sent = "evaluations/num_tests=7"
    assert f"{sent}/width4/seed0/result.json" in there
    (view,) = [data for name, data in there.items() if name == f"{sent}/replication_results.json"]
    assert json.loads(view)["results"]["width4"]["n"] == 1
    shutil.rmtree(folder / OUTPUT / "evaluations" / "num_tests=7")
