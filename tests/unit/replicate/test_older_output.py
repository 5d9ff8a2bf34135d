"""Output folders of versions before plans had a manifest: all verbs read them as before.

Their `replication_results.json` was written by the version that made them. Of the few-shot folder
one result is missing, and one was changed by hand to differ from the others.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from merge.api import merge_results, to_pandas
from merge.records.sweep import read_sweep
from merge.results.documents import view_bytes
from merge.results.view import rebuild
from replicate.cli.main import main

DATA = Path(__file__).parents[2] / "data"
FOLDERS = ("older_experiment_output", "older_command_output")


@pytest.fixture(params=FOLDERS)
def older(request, tmp_path) -> Path:
    return shutil.copytree(DATA / request.param, tmp_path / "out")


@pytest.fixture
def experiment(tmp_path) -> Path:
    return shutil.copytree(DATA / FOLDERS[0], tmp_path / "experiment")


@pytest.fixture
def command(tmp_path) -> Path:
    return shutil.copytree(DATA / FOLDERS[1], tmp_path / "command")


def test_a_merge_gives_the_bytes_of_the_version_that_made_the_folder(older):
    view = older / "replication_results.json"
    expected = view.read_bytes()
    assert b'"manifest"' not in expected
    old_view = view.rename(older.parent / "view.json")
    merged = rebuild(older).document
    # Versions that did not compare the code of cells wrote no such key.
    flags = merged.pop("flags", [])
    assert view_bytes(merged) == expected
    assert [flag["differs"] for flag in flags] == ["code.source"] * (b"fewshot" in expected)
    assert view_bytes(merge_results([old_view, older])) == view.read_bytes()


def test_a_plan_keeps_its_form(older):
    sweep = read_sweep(older / "sweep.json")
    assert sweep.frozen_manifest is None
    assert "manifest" not in sweep.to_json()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("merge",), (3, 0)),
        (("merge", "--strict"), (2, 0)),
        (("status",), (0, 0)),
        (("report", "--forms", "md,html,tex,csv"), (0, 0)),
        (("retry", "--dry-run"), (0, 0)),
        (("cancel", "--dry-run"), (0, 0)),
    ],
)
def test_every_verb_that_takes_a_folder_reads_it(words, code, experiment, command, capsys):
    codes = tuple(main([words[0], str(out), *words[1:]]) for out in (experiment, command))
    assert codes == code, capsys.readouterr().err


def test_metrics_of_an_older_experiment_are_shown_in_percent(experiment, capsys):
    assert main(["merge", str(experiment)]) == 3
    shown = capsys.readouterr().out
    assert "miou (%)" in shown
    assert " 69.9 " in shown
    assert " 39.9" in shown.split("untrained")[1]
    assert "details.protocol differs between 0/1 (bam) and 3 (hsnet)" in shown


def test_metrics_of_an_older_command_are_shown_as_they_are(command, capsys):
    assert main(["merge", str(command)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("loss, lower is better  ")
    assert " 1.085 " in shown


def test_two_values_of_an_older_plan_are_compared_over_its_repeats(command, capsys):
    words = ("compare", str(command), "--axis", "lr", "--values", "1,2")
    assert main([*words]) == 1, "they were tested under different protocols"
    shown = capsys.readouterr()
    assert "4/4" in shown.out
    assert shown.err.count("details.protocol differs: p1 and p2") == 4


def test_a_frame_has_the_columns_it_had(experiment):
    columns = list(to_pandas(experiment).columns)
    assert columns[-3:] == ["details.min_area_px", "details.amp", "details.torch"]
    assert columns.index("details.data_fingerprint") < columns.index("details.protocol")
