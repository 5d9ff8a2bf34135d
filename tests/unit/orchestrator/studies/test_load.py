"""A study file is taken whole, or refused with every problem and its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.studies import COMMAND, TOY, study_of, write_study

from merge.errors import StudyError, UsageError
from merge.records.sweep import Axis, Resources
from orchestrator.studies.grid import expand
from orchestrator.studies.load import load_study


def test_a_study_keeps_the_types_that_were_written(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        COMMAND + "fixed: {a: 1, b: 1.0, c: true, d: '1', e: on, f: 2024-01-31, g: 007, h: [1, x]}",
    )
    assert study.axes[0] == Axis(name="lr", values=(0.0001, 0.01))
    assert repr(dict(study.fixed)) == repr(
        {"a": 1, "b": 1.0, "c": True, "d": "1", "e": "on", "f": "2024-01-31", "g": "007"}
        | {"h": [1, "x"]}
    )
    assert (study.metric, study.goal) == ("loss", "min")


def test_values_of_an_experiment_take_the_options_type(tmp_path: Path) -> None:
    text = TOY + "fixed: {lr: 1, amp: off}\noverrides: [{when: {shot: 5}, set: {lr: 2}}]"
    study = study_of(tmp_path, text, {"lr": "3"})
    values = (study.fixed["lr"], study.overrides[0].set["lr"], study.settings["lr"])
    assert repr(values) == "(1.0, 2.0, 3.0)"
    assert study.fixed["amp"] == "off"
    assert study.defaults["epochs"] == 50


def test_a_command_is_started_without_torchrun_unless_it_asks(tmp_path: Path) -> None:
    assert study_of(tmp_path, COMMAND).resources == Resources(launcher="none")
    asked = study_of(tmp_path, COMMAND + "resources: {launcher: torchrun, devices_per_run: 2}")
    assert asked.resources == Resources(launcher="torchrun", devices_per_run=2)
    assert study_of(tmp_path, TOY).resources.launcher == "torchrun"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
name: toy
titel: x
experiment: toy
axes:
  dataset: [a, c]
  shots: [1]
  fold: [0, 1]
average_over: fold
metric: {name: miou, goal: best}
fixed:
  epochs: "5"
  lr: .nan
  flip: no
  lr: 2
overrides:
  - when: {datset: a}
    set: {lrr: 1}
exclude: [{fold: 9}]
cell: "{dataset}{fold}"
run_path: "{dataset.x}"
resources: {devices_per_run: 0, gpus: 1}
published: nowhere
"""
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, text)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "study.yaml:2:1 titel",
        "study.yaml:5:16 axes.dataset[1]",
        "study.yaml:6:3 axes.shots",
        "study.yaml:9:28 metric.goal",
        "study.yaml:11:11 fixed.epochs",
        "study.yaml:12:7 fixed.lr",
        "study.yaml:13:9 fixed.flip",
        "study.yaml:14:3 fixed.lr",
        "study.yaml:16:12 overrides[0].when.datset",
        "study.yaml:17:11 overrides[0].set.lrr",
        "study.yaml:18:18 exclude[0].fold",
        "study.yaml:19:7 cell",
        "study.yaml:20:11 run_path",
        "study.yaml:21:30 resources.devices_per_run",
        "study.yaml:21:33 resources.gpus",
        "study.yaml:22:12 published",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: toy", "name: a/b", "study.yaml:1:7 name: 'a/b': a study needs a name of"),
        ("metric: miou\n", "", "metric: missing"),
        ("experiment: toy", "experiment: toys", "no experiment 'toys': did you mean 'toy'?"),
        ("experiment: toy\n", "", "experiment: missing"),
        ("experiment: toy", "experiment: toy\ncommand: [x]", "both are given"),
        ("experiment: toy", "command: run {lr} now", "[run, {lr}, now]"),
        ("experiment: toy", "command: []", "is empty"),
        ("average_over: fold", "average_over: flod", "did you mean 'fold'?"),
        ("average_over: fold\n", "", "axes: dataset, shot, fold"),
        ("shot: [1, 5]", "shot: 1", "axes.shot: must be a list of values, such as [1]"),
        ("shot: [1, 5]", "shot: []", "axes.shot: has no values"),
        ("shot: [1, 5]", "shot:", "axes.shot: has no values: write a list such as [0, 1]"),
        ("shot: [1, 5]", "shot: [1, 5, 1]", "axes.shot[2]: '1' is listed twice"),
        ("shot: [1, 5]", "shot: {values: [1], also: [1]}", "axes.shot.also[0]: '1' is listed"),
        (
            "shot: [1, 5]",
            "shot: [1, [2]]",
            "axes.shot[1]: a value of an axis is a single value, not [2]",
        ),
        ("shot: [1, 5]", "shot: [1, ]\n  sizes: [[8]]", "axes.sizes[0]: a value of an axis"),
        ("shot: [1, 5]", "shot: [1, 11]", "axes.shot[1]: must be at most 10, not 11"),
        ("shot: [1, 5]", 'shot: [1, "5"]', "must be a whole number (without quotes), not '5'"),
        ('cell: "{dataset}_{shot}shot"', "cell: x", "would share the cell 'x'"),
        ("{dataset}_{shot}shot", "{dataset}_{shot}_{fold}", "a cell averages over it"),
        ("{dataset}_{shot}shot", "{dataset}_{shots}", "did you mean 'shot'?"),
        ("{dataset}_{shot}shot", "{dataset}/{shot}", "has a /: a cell is one name"),
        ("{cell}/fold{fold}", "{cell}", "would share the folder 'a_1shot'"),
        ("{cell}/fold{fold}", "../{cell}/{fold}", "has the part '..'"),
        ("{cell}/fold{fold}", "/{cell}/{fold}", "has the part ''"),
        ("{cell}/fold{fold}", "{cell}\\\\{fold}", "has the part"),
        ("{cell}/fold{fold}", "{cell}/{fold}\\x01", "has the part"),
        ("{cell}/fold{fold}", "{cell}/{fold}/attempts", "uses the name 'attempts'"),
        ("{cell}/fold{fold}", "{cell}/{fold}/Claim-1", "uses the name 'Claim-1'"),
        ("{cell}/fold{fold}", "sweep.json/{cell}/{fold}", "uses the name 'sweep.json'"),
        ("{cell}/fold{fold}", "{fold", "run_path: expected '}' before end of string"),
        ("{cell}/fold{fold}", "{fold!r}", "braces may hold only a plain name"),
        (
            "{cell}/fold{fold}",
            "{cell}/{sizes}",
            "{sizes} is [32, 64]: a template can use single values only",
        ),
        ("{cell}/fold{fold}", "x" * 200 + "{cell}{fold}", "characters long"),
    ],
)
def test_a_single_mistake_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TOY
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, TOY.replace(old, new))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("fixed: {epoch: 3}", "fixed.epoch: experiment 'toy' has no option 'epoch': did you mean"),
        ("fixed: {shot: 3}", "fixed.shot: is an axis"),
        (
            "retries: {kiled: 1}",
            "retries.kiled: is not a cause of a failure: did you mean 'killed'?",
        ),
        ("retries: {nan_loss: 1}", "retries.nan_loss: a second attempt would end like the first"),
        ("retries: {killed: often}", "retries.killed: must be how many more attempts, 0 or more"),
        ("retries: {max: {limit: 1}}", "retries.max: must be how many more attempts"),
        ("retries: {killed: {wait_s: -1}}", "retries.killed.wait_s: must be 0 or more"),
        (
            "retries: {killed: {wait: 1}}",
            "retries.killed.wait: unknown: there are limit and wait_s",
        ),
        ("resources: {gpu_mem_gb: 0}", "resources.gpu_mem_gb"),
        ("debug: {shot: 3}", "debug.shot: is an axis"),
        ("fixed:", "fixed: must be a mapping (`key: value` lines), but the value is empty"),
        ("resources: {nodes: 0}", "resources.nodes: must be at least 1, not 0"),
        ("resources: {hours: 0}", "resources.hours: must be more than 0, not 0"),
        ("resources: {hours: 1e308}", "resources.hours: must be at most 1e+06, not 1e+308"),
        ("resources:\n\tnodes: 1", "cannot start any token: indent with spaces"),
        ("fixed: {sizes: 8}", "fixed.sizes: must be a list, not 8"),
        ("fixed: {sizes: [8, 7]}", "must be at least 8, not 7"),
        ("fixed: {epochs: }", "fixed.epochs: must be a whole number, not null"),
        ("fixed: {lr: !!python/object:os.system x}", "is not allowed"),
        ("fixed: {lr: -.inf}", "-.inf is not a finite number"),
        ("fixed: {amp: {x: 1}}", "fixed.amp: must be text"),
        ("overrides: [{when: {}, set: {lr: 1}}]", "is empty: it would apply to every run"),
        ("overrides: [{when: {shot: 1}}]", "changes nothing"),
        ("overrides: [{when: {shot: []}, set: {lr: 1}}]", "names no value"),
        ("overrides: [{when: {shot: 2}, set: {lr: 1}}]", "no value '2'; choices: 1, 5"),
        ("overrides: [{when: {amp: on}, set: {lr: 1}}]", "'on' is not a choice"),
        ("overrides: [{when: {shot: 1}, set: {fold: 1}}]", "overrides[0].set.fold: is an axis"),
        ("overrides: [{when: {shot: 1}, resources: {gpu: 1}}]", "unknown key; known: device"),
        ("exclude: [{}]", "exclude[0]: is empty: it would apply to every run"),
        ("exclude: [{lr: 0.1}]", "exclude[0].lr: unknown key"),
        ("exclude: [{fold: [0, 1, 2, 3]}]", "takes out every run of the table"),
        ("resources: {devices_per_run: 3}", "global_batch 16 cannot be divided over"),
        (
            "overrides: [{when: {shot: 1}, resources: {devices_per_run: 3}}]",
            "global_batch 16 cannot be divided over",
        ),
        ("resources: {device: gpu}", "'gpu' is not one of 'auto', 'cuda' or 'cpu'"),
        ("name: again", "name: this key appears twice"),
        ("<<: {title: x}", "<<: unknown key"),
        ("? [a, b]\n: c", "a key must be a single word"),
    ],
)
def test_a_single_addition_that_is_wrong_is_named(tmp_path: Path, added: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, TOY + added)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"{lr}"', '"{lrr}"', "{lrr} is neither an axis nor a key: did you mean 'lr'?"),
        ('"{lr}"', "[x]", "a word of the command is a single value"),
        ('"{lr}"', "{lr}", 'a word of the command is a single value: in quotes, "{lr}"'),
        ("seed: [0, 1, 2]", "seed: [0, mean]", "is also a key of the merged results"),
        ("seed: [0, 1, 2]", "seed: [0, 1]\n  cell: [1]", "an axis cannot be called cell"),
        ("seed: [0, 1, 2]", "seed: [0, 1]\n  2x: [1]", "is not a valid key"),
        ("seed: [0, 1, 2]", "seed: [0]\n  run_dir: [1]", "{run_dir} is a path of the run"),
        ("goal: min}", "goal: min}\nfixed: {run_spec: x}", "{run_spec} is a path of the run"),
        ("seed: [0, 1, 2]", "seed: [a b, a/b]", "would have the same folder name"),
        ("seed: [0, 1, 2]", "seed: [x, X]", "would have the same folder name"),
        ("[1e-4, 1e-2]", "[1e-4, 0.0001]", "axes.lr[1]: '0.0001' is listed twice"),
        (
            '"{lr}"]',
            '"{wd}"]\noverrides: [{when: {lr: 1e-4}, set: {wd: 1}}]',
            "{wd} has no value in run lr=0.01, seed=0",
        ),
    ],
)
def test_a_mistake_in_a_command_study_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in COMMAND
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, COMMAND.replace(old, new))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("[1e-4, 1e-2]", "1e-4", "axes.lr"),
        ("lr: [1e-4, 1e-2]", "lr:", "axes.lr"),
        ("[0, 1, 2]", "0", "axes.seed"),
        ("axes:\n", "axes: 7\nfixed:\n", "axes"),
        ("command:", "experiment: fewshot\ncommand:", "command"),
    ],
)
def test_one_mistake_is_one_problem(tmp_path: Path, old: str, new: str, where: str) -> None:
    text = COMMAND + 'run_path: "{lr}/{seed}"\n'
    assert old in text
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, text.replace(old, new))
    assert [problem.split(": ")[0].split(" ")[1] for problem in caught.value.problems] == [where]


def test_two_folders_that_give_one_run_id_are_refused(tmp_path: Path) -> None:
    text = COMMAND.replace("seed: [0, 1, 2]", "seed: [a, a-b]\n  place: [b-c, c]")
    with pytest.raises(StudyError, match=r"'0\.0001/a-b/c' and '0\.0001/a/b-c' give one run id"):
        study_of(tmp_path, text + 'run_path: "{lr}/{seed}/{place}"')


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": "3"}, "--set epoch=3: no such key: did you mean 'epochs'?"),
        ({"datsaet": "a"}, "--set datsaet=a: no such key: did you mean 'dataset'?"),
        ({"shot": "1"}, "--set shot=1: shot is an axis of this study: select its values with"),
        ({"epochs": "x"}, "must be a whole number, not 'x'"),
        ({"lr": ".inf"}, "must be a finite number"),
        ({"amp": "on"}, "'on' is not a choice"),
        ({"global_batch": "0"}, "must be at least 1"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        study_of(tmp_path, TOY, settings)
    assert message in str(caught.value)


def test_settings_are_read_in_the_options_type(tmp_path: Path) -> None:
    given = {"epochs": "4", "lr": "1e-3", "flip": "false", "amp": "off", "sizes": "8,16"}
    study = study_of(tmp_path, TOY, given)
    assert study.settings == {
        "epochs": 4,
        "lr": 0.001,
        "flip": False,
        "amp": "off",
        "sizes": [8, 16],
    }


def test_a_setting_can_fill_a_placeholder_that_nothing_else_fills(tmp_path: Path) -> None:
    text = COMMAND.replace('"{lr}"', '"{lr}", "{data}"')
    with pytest.raises(StudyError, match=r"\{data\} is neither an axis nor a key"):
        study_of(tmp_path, text)
    assert study_of(tmp_path, text, {"data": "/d"}).settings == {"data": "/d"}
    with pytest.raises(UsageError, match="no such key"):
        study_of(tmp_path, text, {"data": "/d", "other": "1"})
    with pytest.raises(UsageError, match="no such key"):
        study_of(tmp_path, text.replace("{data}", "{run_dir}"), {"run_dir": "/d"})


def test_a_problem_of_the_file_comes_before_one_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(StudyError):
        study_of(tmp_path, TOY + "titel: x", {"epoch": "3"})


def test_a_grid_that_explodes_is_refused_before_it_is_built(tmp_path: Path) -> None:
    axes = "".join(f"  a{i}: [{', '.join(map(str, range(100)))}]\n" for i in range(4))
    text = COMMAND.replace("axes:\n", "axes:\n" + axes)
    with pytest.raises(StudyError, match="make 600000000 runs: at most 100000"):
        study_of(tmp_path, text)


def test_a_file_that_is_not_there_or_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read \(No such file"):
        load_study(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_study(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(UsageError, match="save it as UTF-8"):
        load_study(latin)
    for text in ("", "- a\n- b", "just words"):
        with pytest.raises(StudyError, match="no `key: value` lines"):
            load_study(write_study(tmp_path, text))


def test_a_damaged_options_file_is_told_with_its_place(tmp_path: Path) -> None:
    path = write_study(tmp_path, TOY)
    options = tmp_path / "experiments" / "toy" / "options.yaml"
    options.write_text("lr: {type: floot, default: 1}\nepochs: {type: int, dafault: 3}\nshot: 3\n")
    with pytest.raises(StudyError) as caught:
        load_study(path, experiments=tmp_path / "experiments")
    told = str(caught.value)
    assert "options.yaml:1:1 lr: type or default: type 'floot' is not int" in told
    assert "options.yaml:2:21 epochs.dafault: unknown key: did you mean 'default'?" in told
    assert "options.yaml:3:7 shot: must be a mapping (`key: value` lines), not 3" in told


TYPED = COMMAND + (
    'fixed: {sizes: [352, 416], tag: "83e2010", flag: false, rate: 0.1, steps: 10, none: null,'
    " names: [a, b], weights: [0.5, 1]}\n"
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sizes=[480,512]", [480, 512]),
        ("sizes=480, 512", [480, 512]),
        ("sizes=480", [480]),
        ("sizes=[]", []),
        ("tag=9509425e4", "9509425e4"),
        ("tag='12'", "12"),
        ('tag="a, [b"', "a, [b"),
        ('tag="C:\\data \\"x\\" \\\\"', 'C:\\data "x" \\'),
        ("tag=[1, 2", "[1, 2"),
        ("tag=010", "010"),
        ("tag=2024-01-01", "2024-01-01"),
        ("tag=null", "null"),
        ("tag=", ""),
        ("flag=off", False),
        ("flag=Yes", True),
        ("rate=1", 1.0),
        ("rate=-1e-3", -0.001),
        ("rate=null", None),
        ("steps=1e3", 1000),
        ("steps=0.5", 0.5),
        ("steps=-3", -3),
        ("none=1e3", 1000.0),
        ("none=[1, x]", [1, "x"]),
        ("none='[1'", "[1"),
        ("names=[1, 'b, c']", ["1", "b, c"]),
        ("weights=[1, 0.25]", [1, 0.25]),
    ],
)
def test_a_setting_of_a_command_has_the_type_that_the_study_gives(
    tmp_path: Path, text: str, value: object
) -> None:
    key, _, typed = text.partition("=")
    assert repr(study_of(tmp_path, TYPED, {key: typed}).settings[key]) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sizes=[1, 2", "the brackets of the list do not match: write [a, b] or a,b"),
        ("sizes=1, 2]", "the brackets of the list do not match"),
        ("sizes=[1,,2]", "an item of the list is empty"),
        ("sizes=[[1], 2]", "an item of the list is empty, or holds one of , [ ] { }"),
        ("sizes=[1, x]", "must be a whole number, not 'x'"),
        ("flag=maybe", "must be true or false, not 'maybe'"),
        ("flag=1", "must be true or false, not 1"),
        ("rate=010", "must be a number, not '010'"),
        ("rate=2024-01-01", "must be a number, not '2024-01-01'"),
        ("rate=", "'' is empty: write null"),
        ("rate=[1, 2]", "must be a number, not '[1, 2]'"),
        ("steps=true", "must be a whole number, not True"),
        ("none=[1, 2", "the brackets of the list do not match"),
        ("none=", "'' is empty: write null"),
        ("none={a: 1}", "a mapping is no value of a configuration"),
    ],
)
def test_a_setting_of_another_type_than_the_study_gives_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    key, _, typed = text.partition("=")
    with pytest.raises(UsageError) as caught:
        study_of(tmp_path, TYPED, {key: typed})
    assert f"--set {text}: {message}" in str(caught.value)


def test_brackets_that_do_not_match_are_refused_for_an_option_too(tmp_path: Path) -> None:
    for text in ("[8, 16", "8, 16]", "[8, 16]]"):
        with pytest.raises(UsageError, match="--set sizes="):
            study_of(tmp_path, TOY, {"sizes": text})
    assert study_of(tmp_path, TOY, {"flip": "off"}).settings == {"flip": False}


@pytest.mark.parametrize("values", ["[1, 1.0]", "[1000, 1e3]", "[0.0, -0]", "[0.5, .5]"])
def test_one_number_in_two_spellings_makes_no_two_runs(tmp_path: Path, values: str) -> None:
    with pytest.raises(StudyError, match=r"axes\.lr\[1\]: '.*' is listed twice"):
        study_of(tmp_path, COMMAND.replace("[1e-4, 1e-2]", values))
    # A number, a text and a boolean are three values.
    axes = study_of(tmp_path, COMMAND.replace("[1e-4, 1e-2]", "[1, true, x]")).axes
    assert axes[0].values == (1, True, "x")


def test_a_condition_of_a_command_compares_numbers_not_their_spelling(tmp_path: Path) -> None:
    text = COMMAND + "fixed: {steps: 10}\noverrides: [{when: {steps: 10.0}, set: {slow: yes}}]\n"
    assert all(run.config["slow"] == "yes" for run in expand(study_of(tmp_path, text)))
