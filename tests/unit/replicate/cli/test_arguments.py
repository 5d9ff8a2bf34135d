"""Flags: filters, settings and the default folder."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from merge.errors import UsageError
from replicate.cli import arguments
from replicate.cli.main import main


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    arguments.add_study(parser)
    arguments.add_selection(parser)
    arguments.add_output(parser)
    return parser.parse_args(words)


def test_filters_take_words_or_commas_and_combine():
    parsed = parse("--folds", "0", "1", "--datasets", "pascal5i,coco20i", "--where", "method=a,b")
    assert arguments.selection(parsed) == {
        "dataset": ["pascal5i", "coco20i"],
        "fold": ["0", "1"],
        "method": ["a", "b"],
    }


def test_no_filter_selects_no_axis():
    assert arguments.selection(parse()) == {}


@pytest.mark.parametrize(
    "words", [("--folds", "0", "--where", "fold=1"), ("--where", "fold=0", "--where", "fold=1")]
)
def test_an_axis_that_is_filtered_twice_is_refused(words):
    with pytest.raises(UsageError, match="fold is filtered twice"):
        arguments.selection(parse(*words))


@pytest.mark.parametrize("text", ["epochs", "=3"])
def test_a_setting_or_a_filter_that_is_no_pair_is_refused(text):
    with pytest.raises(UsageError, match="KEY=VALUE"):
        arguments.settings(parse("--set", text))
    with pytest.raises(UsageError, match="AXIS=A,B"):
        arguments.selection(parse("--where", text))


def test_a_setting_may_hold_an_equals_sign_but_not_come_twice():
    assert arguments.settings(parse("--set", "name=a=b")) == {"name": "a=b"}
    with pytest.raises(UsageError, match="given twice"):
        arguments.settings(parse("--set", "lr=1", "--set", "lr=2"))


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ((), "outputs/abcb"),
        (("--study", "my/own.yaml"), "outputs/own"),
        (("--study", "demo", "--debug"), "outputs/demo-debug"),
        (("--output-dir", "here"), "here"),
    ],
)
def test_the_output_folder_follows_the_study_unless_named(words, folder):
    assert arguments.output_folder(parse(*words)) == Path(folder)


def test_an_output_folder_that_is_a_file_or_lies_in_one_is_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("name: x")
    for named in (file, file / "out"):
        with pytest.raises(UsageError, match=r"study\.yaml is a file, not a folder"):
            arguments.output_folder(parse("--output-dir", str(named)))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--runs-per-gpu", "0"), "--runs-per-gpu 1 or more"),
        (("--restart-stalled", "nan"), "--restart-stalled takes a number of minutes above 0"),
        (("--restart-stalled", "inf"), "--restart-stalled takes a number of minutes above 0"),
        (("--devices-per-run", "3"), "does not divide the global batch"),
        (("--sync", "s3:/x"), "write s3://BUCKET/PREFIX"),
        (("--grace", "nan"), "give a number of seconds"),
    ],
)
def test_a_dry_run_refuses_the_flags_that_the_run_would_refuse(capsys, words, told):
    assert main(["run", "--study", "demo", "--dry-run", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_behind_a_flag_of_several_values_is_asked_for_in_front_of_it(capsys):
    assert main(["cancel", "--folds", "0", "1", "outputs/abcb"]) == 2
    assert "required: OUT; name it first, before flags that take" in capsys.readouterr().err


@pytest.mark.parametrize("is_debug", [False, True])
def test_a_place_that_the_system_refuses_is_named_without_a_traceback(is_debug):
    words = ["doctor", "/proc/nowhere", "--only", "folder"]
    words += ["--log-level", "debug"] if is_debug else []
    command = [sys.executable, "-m", "replicate", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 75
    told = "replicate: /proc/nowhere: No such file or directory: name another place"
    assert told in done.stderr.splitlines()[-1]
    assert ("Traceback" in done.stderr) is is_debug


@pytest.mark.parametrize(("folds", "told"), [("0", "1 run in 1 shard"), ("0,1", "2 runs in 1")])
def test_one_run_is_not_called_runs(capsys, folds, told):
    lite0 = ("--backbones", "efficientnet_lite0")
    words = ["plan", "--study", "demo", *lite0, "--shots", "1", "--folds", folds]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert told in printed


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path, capsys):
    output = tmp_path / "out"
    words = ["run", "--study", "demo", "--shots", "5", "--output-dir", str(output), "--dry-run"]
    assert main(words) == 0
    assert "2 runs in 1 shard" in capsys.readouterr().out
    assert not output.exists()


@pytest.mark.parametrize(
    ("verb", "flag"), [(["status", "out"], "--claims"), (["run", "--study", "demo"], "--sync")]
)
def test_flags_of_access_to_a_bucket_are_refused_without_a_bucket(
    tmp_path, monkeypatch, capsys, verb, flag
):
    monkeypatch.chdir(tmp_path)
    assert main([*verb, "--region", "eu-west-1"]) == 2
    assert f"name the bucket with {flag} S3URL" in capsys.readouterr().err
