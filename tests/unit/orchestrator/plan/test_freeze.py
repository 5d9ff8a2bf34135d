"""A plan is written once; a study that changes a planned run is refused with what differs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.studies import (
    COMMAND,
    TOY,
    TOY_MANIFEST,
    study_of,
    write_experiment,
    write_study,
)

from merge.errors import ConfigChangedError, RecordError, StorageError
from merge.records.plan_changes import plan_changes
from merge.records.sweep import Sweep, read_sweep
from orchestrator.plan.freeze import freeze, make_sweep
from orchestrator.studies.load import load_study

ALL = "(in 16 runs: a_1shot-fold0, a_1shot-fold1, a_1shot-fold2, a_1shot-fold3, ... (12 more))"
CODE = {"version": "0.1.0", "source": "0" * 16}


def sweep_of(folder: Path, text: str = TOY, settings: dict[str, str] | None = None) -> Sweep:
    return make_sweep(study_of(folder, text, settings), CODE)


def test_a_frozen_plan_is_read_back_as_it_was(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TOY + "fixed: {lr: 1}", {"epochs": "3"})
    assert freeze(tmp_path / "out", sweep) == sweep
    written = read_sweep(tmp_path / "out" / "sweep.json")
    assert written == sweep
    assert written.settings == {"epochs": 3}
    assert [run.in_table for run in written.runs] == [True] * 8 + [False] * 8


def test_the_same_plan_again_changes_nothing(tmp_path: Path) -> None:
    first = freeze(tmp_path / "out", sweep_of(tmp_path))
    before = (tmp_path / "out" / "sweep.json").stat()
    other = make_sweep(
        study_of(tmp_path, TOY + "resources: {devices_per_run: 2}"),
        {"version": "0.2.0", "source": "1" * 16},
    )
    assert freeze(tmp_path / "out", other) == first
    after = (tmp_path / "out" / "sweep.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_changed_value_is_shown_with_the_number_of_its_runs(tmp_path: Path) -> None:
    freeze(tmp_path / "out", sweep_of(tmp_path))
    text = TOY + "fixed: {lr: 1}\noverrides: [{when: {shot: 5, fold: 0}, set: {epochs: 3}}]"
    with pytest.raises(ConfigChangedError) as caught:
        freeze(tmp_path / "out", sweep_of(tmp_path, text, {"amp": "off", "sizes": "8"}))
    assert str(caught.value).splitlines() == [
        f"this study changes runs that are planned in {tmp_path / 'out' / 'sweep.json'}; "
        "planned -> requested now:",
        f'  amp: "auto" -> "off" {ALL}',
        "  epochs: 50 -> 3 (in 2 runs: a_5shot-fold0, b_5shot-fold0)",
        f"  lr: 0.1 -> 1.0 {ALL}",
        f"  sizes: [32,64] -> [8] {ALL}",
        "Numbers of both would be mixed in one table, so nothing was changed: give another "
        "--output-dir, or undo the change. A study that only adds runs may use this folder.",
    ]


FREE = """
panels: {type: int, default: 4, min: 0, decides_numbers: false, help: "p"}
"""


def test_an_option_that_decides_no_number_may_change_under_a_plan(tmp_path: Path) -> None:
    write_study(tmp_path, TOY)
    options = tmp_path / "experiments" / "toy" / "options.yaml"
    options.write_text(options.read_text() + FREE)

    def planned(settings: dict[str, str]) -> Sweep:
        path, folder = tmp_path / "study.yaml", tmp_path / "experiments"
        return make_sweep(load_study(path, settings=settings, experiments=folder), CODE)

    first = freeze(tmp_path / "out", planned({}))
    assert first.free_keys == ("panels",)
    assert plan_changes(first, planned({"panels": "9"})) == ()
    assert freeze(tmp_path / "out", planned({"panels": "9"})) == first
    differences = plan_changes(first, planned({"panels": "9", "lr": "1"}))
    assert differences == (f"lr: 0.1 -> 1.0 {ALL}",)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("fold: [0, 1, 2, 3]", "fold: [0, 1]", []),
        ("values: [a], also: [b]", "values: [a, b], also: []", []),
        ("shot: [1, 5]", "shot: [1, 5, 7]", []),
        ("shot: [1, 5]", "shot: [7]", []),
        (
            'run_path: "{cell}/fold{fold}"',
            'run_path: "{cell}/{fold}"',
            ["path: a_1shot/fold0 -> a_1shot/0 (in 1 run: a_1shot-fold0)"] + ["path: "] * 15,
        ),
        (
            'cell: "{dataset}_{shot}shot"',
            'cell: "{dataset}-{shot}"',
            ["cell: a_1shot -> a-1 (in 4 runs: a_1shot-fold0, a_1shot-fold1, "]
            + ["cell: "] * 3
            + ["path: "] * 16,
        ),
        ("metric: miou", "metric: {name: nss, goal: max}", [f"metric: miou -> nss {ALL}"]),
        ("name: toy", "name: toys", [f"study: toy -> toys {ALL}"]),
        ("  shot: [1, 5]\n", "  shot: [1, 5]\n  lr: [0.1]\n", []),
    ],
)
def test_a_changed_definition_is_shown(
    tmp_path: Path, old: str, new: str, lines: list[str]
) -> None:
    assert old in TOY
    differences = plan_changes(sweep_of(tmp_path), sweep_of(tmp_path, TOY.replace(old, new)))
    assert len(differences) == len(lines)
    for difference, line in zip(differences, lines, strict=True):
        assert difference.startswith(line)


def test_another_goal_in_the_manifest_is_another_plan_and_another_title_is_not(
    tmp_path: Path,
) -> None:
    path, folder = write_study(tmp_path, TOY), tmp_path / "experiments"

    def planned(old: str = "", new: str = "") -> Sweep:
        write_experiment(folder / "toy", manifest=TOY_MANIFEST.replace(old, new))
        return make_sweep(load_study(path, experiments=folder), CODE)

    first = planned()
    other_goal = planned("goal: max", "goal: min")
    assert plan_changes(first, other_goal) == (f"goal: max -> min {ALL}",)
    other_unit = planned("unit: percent", "unit: px")
    assert plan_changes(first, other_unit) == (f"unit of miou: percent -> px {ALL}",)
    assert plan_changes(first, planned("A toy", "Another toy")) == ()


def test_a_plan_carries_the_manifest_it_was_made_with(tmp_path: Path) -> None:
    freeze(tmp_path / "out", sweep_of(tmp_path))
    manifest = read_sweep(tmp_path / "out" / "sweep.json").manifest
    assert manifest == sweep_of(tmp_path).manifest
    assert manifest.metric("miou").unit == "percent"
    assert manifest.metric("nss").unit == "number"


def test_one_and_true_are_two_configurations(tmp_path: Path) -> None:
    old, new = (sweep_of(tmp_path, COMMAND + f"fixed: {{x: {value}}}") for value in ("1", "true"))
    (change,) = plan_changes(old, new)
    assert change.startswith("x: 1 -> true (in 6 runs: lr=0.0001-seed=0, ")


def test_a_refusal_stays_readable_whatever_differs(tmp_path: Path) -> None:
    keys = ", ".join(f"key{number}: 1" for number in range(50))
    freeze(tmp_path / "out", sweep_of(tmp_path, COMMAND))
    with pytest.raises(ConfigChangedError) as caught:
        freeze(tmp_path / "out", sweep_of(tmp_path, COMMAND + f"fixed: {{{keys}}}"))
    lines = str(caught.value).splitlines()
    assert len(lines) <= 20
    assert "  ... and 34 more changes" in lines


def test_of_many_who_freeze_at_once_all_get_the_one_plan(tmp_path: Path) -> None:
    sweeps = [sweep_of(tmp_path, TOY, {"epochs": str(1 + number % 2)}) for number in range(8)]

    def attempt(sweep: Sweep) -> Sweep | None:
        try:
            return freeze(tmp_path / "out", sweep)
        except ConfigChangedError:
            return None

    with ThreadPoolExecutor(8) as pool:
        frozen = list(pool.map(attempt, sweeps))
    written = read_sweep(tmp_path / "out" / "sweep.json")
    assert [plan == written for plan in frozen] == [
        sweep.settings == written.settings for sweep in sweeps
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sweep.json"]


def test_a_damaged_plan_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    path.write_text('{"schema": 1, "study": ')
    with pytest.raises(RecordError, match=r"sweep\.json is not valid JSON"):
        freeze(tmp_path, sweep_of(tmp_path))
    assert path.read_text() == '{"schema": 1, "study": '


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises((StorageError, RecordError), match="out"):
        freeze(tmp_path / "out", sweep_of(tmp_path))
