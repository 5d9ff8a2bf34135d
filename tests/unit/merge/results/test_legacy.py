"""Files of the original script: read without their stale means, told percent from fraction."""

from __future__ import annotations

import json

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge import merge_results
from merge.errors import RecordError, UsageError
from merge.results.combine import combine
from merge.results.inputs import read_inputs
from merge.results.view import merge_inputs, rebuild
from merge.storage.json_files import read_json, write_json
from replicate.views.table import results_table

CELL = "pascal5i_resnet50_1shot"


def write_legacy(path, folds, mean=None, cell=CELL):
    entry = {str(fold): {"miou": miou} for fold, miou in folds.items()}
    if mean is not None:
        entry["mean"] = {"miou": mean}
    write_json(path, {"results": {cell: entry}})
    return path


def merged_cell(*paths, **options):
    return merge_results(paths, **options)["results"][CELL]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_two_halves_with_stale_means_give_the_true_mean_in_either_order(tmp_path, order):
    write_legacy(tmp_path / "a/replication_results.json", {0: 0.66, 1: 0.67}, mean=0.665)
    write_legacy(tmp_path / "b/replication_results.json", {2: 0.73, 3: 0.73}, mean=0.73)
    cell = merged_cell(*(tmp_path / name for name in order))
    assert cell["mean"]["miou"] == pytest.approx(0.6975, abs=1e-12)
    assert (cell["n"], cell["complete"]) == (4, True)


def test_a_stale_mean_is_recomputed_and_told(tmp_path):
    folds = {0: 0.66, 1: 0.67, 2: 0.73, 3: 0.73}
    path = write_legacy(tmp_path / "replication_results.json", folds, mean=0.73)
    assert merged_cell(path)["mean"]["miou"] == pytest.approx(0.6975, abs=1e-12)
    notes = combine(read_inputs([path])).notes
    assert any("0.73" in note and "stale" in note and "0.6975" in note for note in notes)


@pytest.mark.parametrize("mean", [0.6975 + 3e-8, 0.6975, 0.69752])
def test_a_mean_that_was_only_rounded_is_not_told_as_stale(tmp_path, mean):
    folds = {0: 0.66, 1: 0.67, 2: 0.73, 3: 0.73}
    path = write_legacy(tmp_path / "replication_results.json", folds, mean=mean)
    assert not any("stale" in note for note in combine(read_inputs([path])).notes)


@pytest.mark.parametrize(("value", "unit"), [(66.3, "fraction"), (101.0, "percent")])
def test_a_unit_that_the_values_contradict_is_refused(tmp_path, value, unit):
    path = write_legacy(tmp_path / "odd.json", {0: value})
    with pytest.raises(RecordError, match=rf"not in {unit} .*{value:g}"):
        merge_results(path, legacy_unit=unit)


def test_missing_folds_of_a_legacy_cell_leave_it_without_a_mean(tmp_path):
    path = write_legacy(tmp_path / "replication_results.json", {0: 0.66, 1: 0.67}, mean=0.665)
    cell = merged_cell(path)
    assert (cell["mean"], cell["missing"]) == (None, ["2", "3"])


def test_percent_and_fractions_of_different_files_become_fractions(tmp_path):
    percent = write_legacy(tmp_path / "percent.json", {0: 66.32, 1: 67.0})
    fraction = write_legacy(tmp_path / "fraction.json", {2: 0.73, 3: 0.73})
    document = merge_results([percent, fraction])
    assert document["results"][CELL]["0"] == {"miou": 0.6632}
    assert {entry["unit"] for entry in document["legacy"]} == {"percent", "fraction"}
    notes = combine(read_inputs([percent, fraction])).notes
    assert any("percent.json" in note and "in percent" in note for note in notes)


def test_mixed_units_in_one_file_are_refused_with_the_values(tmp_path):
    path = write_legacy(tmp_path / "mixed.json", {0: 66.3, 1: 0.67})
    with pytest.raises(RecordError, match=r"66\.3.*0\.67.*--legacy-unit"):
        merge_results(path)
    cell = merged_cell(path, legacy_unit="percent")
    assert cell["1"] == {"miou": 0.0067}


@pytest.mark.parametrize("value", [-0.1, 101.0])
def test_a_number_that_is_no_ratio_is_refused(tmp_path, value):
    path = write_legacy(tmp_path / "odd.json", {0: value})
    with pytest.raises(RecordError, match="neither percent nor fraction"):
        merge_results(path)


@pytest.mark.parametrize("document", [{"miou": 66.0}, {"metrics": {"miou": 66.0}}])
def test_per_run_files_are_read_by_folder(tmp_path, document):
    for fold in range(4):
        write_json(tmp_path / CELL / f"fold{fold}" / "result.json", document)
    assert merged_cell(tmp_path)["mean"] == {"miou": 0.66}


def test_a_damaged_per_run_file_is_quarantined_and_the_others_counted(tmp_path):
    write_json(tmp_path / CELL / "fold0" / "result.json", {"miou": 0.5})
    torn = tmp_path / CELL / "fold1" / "result.json"
    torn.parent.mkdir()
    torn.write_text('{"miou": 0.')
    document = merge_results(tmp_path)
    assert document["results"][CELL]["folds"] == ["0"]
    assert document["quarantined"][0]["file"] == f"{CELL}/fold1/result.json"
    assert "not valid JSON" in document["quarantined"][0]["reason"]


def test_legacy_numbers_fill_the_runs_of_a_sweep_and_are_marked(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path / "ours", sweep)
    for run in sweep.runs[:2]:
        write_result(tmp_path / "ours", run, 0.5)
    path = write_legacy(tmp_path / "old.json", {2: 60.0, 3: 62.0})
    cell = merged_cell(tmp_path / "ours", path)
    assert cell["mean"]["miou"] == pytest.approx(0.555)
    assert cell["flags"] == [
        {
            "differs": "origin",
            "runs": {
                "with configuration hash": ["0", "1"],
                "legacy: no configuration hash": ["2", "3"],
            },
        }
    ]


def test_a_legacy_number_that_differs_from_ours_is_a_conflict(tmp_path):
    sweep = make_grid()
    write_sweep(tmp_path / "ours", sweep)
    write_result(tmp_path / "ours", sweep.runs[0], 0.5)
    path = write_legacy(tmp_path / "old.json", {0: 0.6})
    merged = combine(read_inputs([tmp_path / "ours", path]))
    assert sorted(merged.conflicts[0].values) == [0.5, 0.6]
    for policy in ("newest", "keep-first"):
        cell = merged_cell(tmp_path / "ours", path, on_conflict=policy)
        assert cell["0"] == {"miou": 0.5}


def test_a_legacy_number_of_no_run_is_told_and_not_lost(tmp_path):
    write_sweep(tmp_path / "ours", make_grid())
    path = write_legacy(tmp_path / "old.json", {0: 0.6}, cell="another_cell")
    merged = combine(read_inputs([tmp_path / "ours", path]))
    assert "another_cell/0" in [problem.file for problem in merged.problems]
    assert merged.document["legacy"][0]["cell"] == "another_cell"


def test_an_old_reader_can_read_what_we_write(tmp_path):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5)
    rebuild(tmp_path)
    results = json.loads(paths.results.read_text())["results"]
    assert {fold: results[CELL][fold]["miou"] for fold in "0123"} == dict.fromkeys("0123", 0.5)
    assert results[CELL]["mean"]["miou"] == 0.5


def test_the_view_of_an_earlier_version_is_read_like_a_legacy_file(tmp_path):
    path = tmp_path / "replication_results.json"
    folds = {str(fold): {"miou": 0.5} for fold in range(4)}
    extra = {"mean": {"miou": 0.5}, "n": 4, "folds": list("0123"), "complete": True}
    write_json(path, {"schema": 1, "study": "x", "results": {CELL: {**folds, **extra}}})
    assert merged_cell(path)["n"] == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"results": {"cell": {"0": {"mi', "not valid JSON"),
        ('{"weights": [1]}', "neither a merged view"),
        ('{"results": {"cell": {"weights": {"miou": 1}}}}', "neither a fold nor a mean"),
        ('{"results": {}}', "no number"),
        ('{"schema": 99, "results": {}}', "schema 99"),
        ('{"schema": 99, "runs": {}, "plan": null}', "schema 99"),
        ('{"schema": 1, "runs": {}, "plan": {}}', "not a merged view of this version"),
    ],
)
def test_a_file_that_cannot_be_used_is_quarantined_by_name(tmp_path, text, reason):
    good = write_legacy(tmp_path / "good.json", {0: 0.5})
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    document = merge_results([bad, good])
    assert document["results"][CELL]["folds"] == ["0"]
    [entry] = document["quarantined"]
    assert entry["file"] == "bad.json"
    assert reason in entry["reason"]
    with pytest.raises(RecordError):
        merge_results([bad])


def test_an_input_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        merge_results([tmp_path / "nowhere"])


def test_merged_files_and_their_folders_merge_to_one_file(tmp_path):
    sweep = make_grid()
    for half, name in (((0, 1), "a"), ((2, 3), "b")):
        write_sweep(tmp_path / name, sweep)
        for fold in half:
            write_result(tmp_path / name, sweep.runs[fold], 0.5 + fold / 10)
        rebuild(tmp_path / name)
    folders = [tmp_path / "a", tmp_path / "b"]
    views = [folder / "replication_results.json" for folder in folders]
    merge_inputs(folders, tmp_path / "whole.json")
    merge_inputs([views[1], folders[0], views[0]], tmp_path / "mixed.json")
    merge_inputs([tmp_path / "whole.json"], tmp_path / "again.json")
    whole = (tmp_path / "whole.json").read_bytes()
    assert (tmp_path / "mixed.json").read_bytes() == whole
    assert (tmp_path / "again.json").read_bytes() == whole
    assert read_json(tmp_path / "whole.json")["results"][CELL]["n"] == 4


def test_a_loss_of_the_original_script_is_no_fraction(tmp_path):
    path = tmp_path / "losses.json"
    folds = {str(fold): {"val_loss": 1.5 + fold} for fold in range(4)}
    path.write_text(json.dumps({"results": {"a": folds}}), encoding="utf-8")
    merged = combine(read_inputs([path]))
    assert merged.problems == ()
    rows = results_table(merged.sweep, merged.document)
    assert rows[0].startswith("val_loss, lower is better  ")
    assert rows[-1].split() == ["a", "1.5", "2.5", "3.5", "4.5", "3", "1.291", "4/4"]
