"""The doors for scripts: merge_results, to_pandas, python -m merge, run folders."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge import merge_results, to_pandas
from merge.errors import ConfigChangedError, IncompleteError
from merge.results.view import merge_inputs
from merge.storage.json_files import read_json, write_json
from merge.storage.paths import RunPaths

CELL = "pascal5i_resnet50_1shot"
DEVIATION = {"micro_batch": {"planned": 8, "used": 4, "cause": "cuda_oom", "attempt": 1}}


@pytest.fixture
def output(tmp_path):
    sweep = make_grid()
    folder = tmp_path / "out"
    write_sweep(folder, sweep)
    for run in sweep.runs:
        path = RunPaths(folder / run.path).spec
        write_json(path, run.to_spec(sweep))
        details = {"seconds": {"train": 60.0}, "protocol": "bam"}
        deviations = DEVIATION if run.axes["fold"] == 3 else {}
        fields = {"details": details, "deviations": deviations, "finished": 160.0}
        write_result(folder, run, 0.5 + run.axes["fold"] / 10, **fields)
    return folder


def python_m_merge(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "merge", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_frame_has_one_row_a_run(output):
    frame = to_pandas(output)
    assert frame["fold"].tolist() == [0, 1, 2, 3]
    assert frame["miou"].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert frame["seconds"].tolist() == [60.0] * 4
    assert frame["train_seconds"].tolist() == [60.0] * 4
    assert frame["deviations"].tolist() == ["", "", "", "micro_batch 8 -> 4 (cuda_oom)"]
    assert frame["attempt"].tolist() == [1] * 4
    assert frame["token"].nunique() == 4
    assert frame["details.protocol"].unique().tolist() == ["bam"]
    mean = merge_results(output)["results"][CELL]["mean"]["miou"]
    assert frame.groupby("cell")["miou"].mean()[CELL] == pytest.approx(mean)


def test_the_frame_of_a_document_is_that_of_its_folders(output):
    assert to_pandas(merge_results([output])).equals(to_pandas([output]))


def test_the_frame_of_no_result_is_empty(tmp_path):
    write_sweep(tmp_path, make_grid())
    assert len(to_pandas(tmp_path)) == 0


def test_legacy_rows_say_so(tmp_path):
    path = tmp_path / "old.json"
    write_json(path, {"results": {CELL: {"0": {"miou": 66.0}}}})
    frame = to_pandas(path)
    assert frame[["cell", "fold", "miou", "is_legacy"]].values.tolist() == [[CELL, "0", 0.66, True]]


def test_merge_results_writes_where_it_is_told(output, tmp_path):
    into = tmp_path / "merged_results.json"
    assert merge_results([output], into) == read_json(into)


def test_a_run_folder_in_its_sweep_contributes_its_one_result(output):
    document = merge_results(output / CELL / "fold2")
    assert document["results"][CELL]["folds"] == ["2"]


def test_a_copied_run_folder_needs_another_input_of_its_sweep(output, tmp_path):
    copy = tmp_path / "copy"
    shutil.move(output / CELL / "fold2", copy)
    with pytest.raises(IncompleteError, match="beside it"):
        merge_results([copy])
    assert merge_results([copy, output])["results"][CELL]["complete"]


def test_a_copied_run_folder_of_another_configuration_is_refused_with_the_keys(output, tmp_path):
    sweep = make_grid(epochs=7)
    run = sweep.runs[2]
    copy = tmp_path / "copy"
    write_json(RunPaths(copy).spec, run.to_spec(sweep))
    write_result(tmp_path / "other", run, 0.5)
    shutil.copy(tmp_path / "other" / run.path / "result.json", copy / "result.json")
    with pytest.raises(ConfigChangedError, match="epochs: 1 -> 7"):
        merge_results([copy, output])


def test_python_m_merge_rebuilds_the_view_of_a_folder(output):
    done = python_m_merge(output, cwd=output.parent)
    assert done.returncode == 0, done.stderr
    assert "mean miou 0.6500 over 4" in done.stdout
    assert read_json(output / "replication_results.json")["results"][CELL]["n"] == 4


def test_python_m_merge_writes_merged_results_of_several_inputs(output, tmp_path):
    old = tmp_path / "old.json"
    write_json(old, {"results": {CELL: {"0": {"miou": 50.0}}}})
    torn = tmp_path / "torn.json"
    torn.write_text("{")
    done = python_m_merge(output, old, torn, cwd=tmp_path)
    assert done.returncode == 1
    assert "torn.json" in done.stderr
    assert "percent" in done.stderr
    assert read_json(tmp_path / "merged_results.json")["quarantined"][0]["file"] == "torn.json"


@pytest.mark.parametrize(
    ("words", "code"), [(("nowhere",), 2), (("out", "--strict"), 2), (("out", "--on-conflict"), 2)]
)
def test_python_m_merge_ends_with_the_code_of_its_error(output, words, code):
    assert python_m_merge(*words, cwd=output.parent).returncode == code


def test_a_conflict_is_written_told_and_survives_merging_again(output, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(output, other)
    run = make_grid().runs[0]
    write_result(other, run, 0.9, token="late", finished=900.0)
    done = python_m_merge(output, other, cwd=tmp_path)
    assert done.returncode == 1
    assert "0.5 in" in done.stderr
    assert "0.9 in" in done.stderr
    assert "--on-conflict" in done.stderr
    merged = merge_inputs([tmp_path / "merged_results.json"], tmp_path / "again.json")
    assert merged.document["conflicts"][0]["run_id"] == run.run_id
    newest = merge_results([tmp_path / "again.json"], on_conflict="newest")
    assert newest["results"][CELL]["0"] == {"miou": 0.9}
