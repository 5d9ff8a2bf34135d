"""Flags: filters, settings and the default folder."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from merge.errors import UsageError
from replicate import arguments
from replicate.cli import main


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
def test_a_setting_that_is_no_pair_is_refused(text):
    with pytest.raises(UsageError, match="KEY=VALUE"):
        arguments.settings(parse("--set", text))


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


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path, capsys):
    output = tmp_path / "out"
    words = ["run", "--study", "demo", "--folds", "1", "--output-dir", str(output), "--dry-run"]
    assert main(words) == 0
    assert "2 runs in 1 shard" in capsys.readouterr().out
    assert not output.exists()


@pytest.mark.parametrize(
    ("verb", "door"), [(["status", "out"], "--claims"), (["run", "--study", "demo"], "--sync")]
)
def test_how_a_bucket_is_reached_says_nothing_without_a_bucket(
    tmp_path, monkeypatch, capsys, verb, door
):
    monkeypatch.chdir(tmp_path)
    assert main([*verb, "--region", "eu-west-1"]) == 2
    assert f"name it with {door} S3URL" in capsys.readouterr().err
