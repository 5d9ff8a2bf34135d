"""An experiment is a folder: of papergrid by name, of anybody by path; its manifest is checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.studies import TOY, TOY_MANIFEST, study_of, write_experiment, write_study

from merge.errors import StudyError
from merge.records.manifest import manifest_from_json
from orchestrator.studies.experiment import EXPERIMENTS, experiment_names, read_experiment, spelled
from orchestrator.studies.load import load_study

FOLDER_STUDY = TOY.replace("experiment: toy", "experiment: ./toys/blobs")


def problems_of(folder: Path, text: str, cwd: Path | None = None) -> list[str]:
    path = write_study(folder, text)
    with pytest.raises(StudyError) as caught:
        load_study(path, experiments=folder / "experiments", cwd=cwd or folder)
    return list(caught.value.problems)


def test_a_folder_is_found_from_where_the_command_is_started(tmp_path):
    write_experiment(tmp_path / "here" / "toys" / "blobs")
    path = write_study(tmp_path / "elsewhere", FOLDER_STUDY)
    study = load_study(path, cwd=tmp_path / "here")
    assert study.experiment == "./toys/blobs"
    assert study.manifest.metric("miou").unit == "percent"
    assert study.defaults["epochs"] == 50


def test_a_folder_has_one_spelling_and_so_one_configuration_hash():
    assert {
        spelled(text) for text in ("./blobs", "./blobs/", "blobs/", ".//blobs", "a/../blobs")
    } == {"./blobs"}
    assert spelled("../blobs/") == "../blobs"
    assert spelled("/data/blobs") == "/data/blobs"
    assert spelled("blobs") == "blobs"


def test_a_name_never_means_a_folder_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_experiment(tmp_path / "blobs")
    (problem,) = problems_of(tmp_path, TOY.replace("experiment: toy", "experiment: blobs"))
    assert "there is no experiment 'blobs'" in problem
    assert "is written ./blobs" in problem


def test_a_path_never_means_an_experiment_of_papergrids(tmp_path):
    (problem,) = problems_of(tmp_path, TOY.replace("experiment: toy", "experiment: ./toy"))
    assert "toy is not a folder: name a folder with manifest.yaml and options.yaml" in problem


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("manifest.yaml", "docs/experiments.md has an example"),
        ("options.yaml", "`python -m experiments.runtime.write_options ./toys/blobs`"),
    ],
)
def test_a_missing_file_is_named(tmp_path, missing, remedy):
    (write_experiment(tmp_path / "toys" / "blobs") / missing).unlink()
    (problem,) = problems_of(tmp_path, FOLDER_STUDY)
    assert f"{tmp_path / 'toys' / 'blobs'} lacks {missing}: " in problem
    assert remedy in problem


def test_a_manifest_without_metrics_is_refused_once(tmp_path):
    write_experiment(tmp_path / "toys" / "blobs", manifest="metrics: {}\n")
    assert [problem for problem in problems_of(tmp_path, FOLDER_STUDY) if "declare" in problem]


@pytest.mark.parametrize("name", ["json", "pytest", "merge"])
def test_a_folder_with_the_name_of_another_module_is_refused(tmp_path, name):
    write_experiment(tmp_path / "toys" / name)
    (problem,) = problems_of(tmp_path, FOLDER_STUDY.replace("/blobs", f"/{name}"))
    assert f"Python has another module {name!r}: rename the folder" in problem


def test_a_folder_that_python_cannot_import_is_refused(tmp_path):
    write_experiment(tmp_path / "toys" / "my-blobs")
    (problem,) = problems_of(tmp_path, FOLDER_STUDY.replace("/blobs", "/my-blobs"))
    assert "name it with letters, digits and _ only" in problem


def test_a_folder_without_both_files_is_no_experiment(tmp_path):
    (tmp_path / "toys" / "blobs").mkdir(parents=True)
    (problem,) = problems_of(tmp_path, FOLDER_STUDY)
    assert "has neither manifest.yaml nor options.yaml" in problem


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metrics:", "metrix:", "manifest.yaml:2:1 metrix: unknown key: did you mean 'metrics'?"),
        ("goal: max, ", "", "metrics.miou: goal is missing: write goal: max or goal: min"),
        (", details: untrained", "", "baseline: details is missing: write details: the key of"),
        ("title:", "code: [..]\ntitle:", "code[0]: '..' is not a shared folder"),
        ("title:", "code: [.]\ntitle:", "code[0]: '.' is not a shared folder"),
        ("goal: max", "goal: most", "metrics.miou.goal: 'most' is not one of"),
        (
            "label: untrained",
            "label: mean",
            "baseline.label: 'mean' is a key of",
        ),
        (
            "label: untrained",
            "label: seconds",
            "baseline.label: 'seconds' is a key of",
        ),
        ("  nss:", "  loss:", "metrics.loss: 'loss' is a name of the training itself"),
        ("title:", "code: [nothing]\ntitle:", "code[0]: 'nothing' is not a shared folder"),
        ("title:", "code: [../x]\ntitle:", "code[0]: '../x' is not a shared folder"),
        ("title:", "result_code: [x.py]\ntitle:", "result_code[0]: 'x.py' is not a file below"),
        ("title:", "data: {prepare: {module: get}}\ntitle:", "data.prepare.module: 'get' is"),
        (
            "title:",
            "data: {prepare: {module: ../x}}\ntitle:",
            "data.prepare.module: '../x'",
        ),
        (
            "title:",
            "comparability: {recorded: [a], equal_in_a_cell: [b]}\ntitle:",
            "'b' is compared but not among the `recorded` details",
        ),
    ],
)
def test_a_wrong_manifest_is_told_with_its_place(tmp_path, old, new, message):
    assert old in TOY_MANIFEST
    write_experiment(tmp_path / "toys" / "blobs", manifest=TOY_MANIFEST.replace(old, new, 1))
    problems = problems_of(tmp_path, FOLDER_STUDY)
    assert any(message in problem for problem in problems), problems


def test_a_manifest_that_has_changed_is_read_again(tmp_path):
    folder = write_experiment(tmp_path / "toys" / "blobs")
    assert read_experiment("./toys/blobs", cwd=tmp_path).manifest.title == "A toy"
    write_experiment(folder, manifest=TOY_MANIFEST.replace("A toy", "Another toy"))
    assert read_experiment("./toys/blobs", cwd=tmp_path).manifest.title == "Another toy"


def test_goal_and_unit_of_a_metric_are_those_of_the_manifest(tmp_path):
    study = study_of(tmp_path, TOY)
    assert (study.metric, study.goal) == ("miou", "max")
    lowest = TOY_MANIFEST.replace("goal: max", "goal: min")
    write_experiment(tmp_path / "experiments" / "toy", manifest=lowest)
    study = load_study(tmp_path / "study.yaml", experiments=tmp_path / "experiments")
    assert study.goal == "min"


def test_a_metric_that_the_manifest_lacks_is_refused_with_a_hint(tmp_path):
    (problem,) = problems_of(tmp_path, TOY.replace("metric: miou", "metric: mio"))
    assert "experiment 'toy' has no metric 'mio': did you mean 'miou'?" in problem


@pytest.mark.parametrize("said", ["goal: min", "unit: number"])
def test_a_study_cannot_contradict_the_manifest(tmp_path, said):
    text = TOY.replace("metric: miou", f"metric: {{name: miou, {said}}}")
    (problem,) = problems_of(tmp_path, text)
    assert "the experiment's manifest says" in problem
    agreeing = TOY.replace("metric: miou", "metric: {name: miou, goal: max, unit: percent}")
    assert study_of(tmp_path, agreeing).goal == "max"


def test_no_value_of_the_averaged_axis_is_called_as_the_baseline(tmp_path):
    options = "dataset: {type: str, default: a}\nshot: {type: int, default: 1}\n"
    options += "fold: {type: str, default: a}\n"
    write_experiment(tmp_path / "toys" / "blobs", options=options)
    text = FOLDER_STUDY.replace("[0, 1, 2, 3]", "[untrained, b]")
    problems = problems_of(tmp_path, text)
    assert any("'untrained' is also a key of the merged results" in problem for problem in problems)


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_of_papergrids_has_a_sound_manifest(name):
    experiment = read_experiment(name)
    assert experiment.folder == EXPERIMENTS / name
    assert experiment.manifest.title
    assert experiment.manifest.metrics
    assert manifest_from_json(experiment.manifest.to_json()) == experiment.manifest
