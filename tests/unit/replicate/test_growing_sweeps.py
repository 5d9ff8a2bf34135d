"""A finished grid grows: the merged view equals, byte for byte, that of the grid planned whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.grids import make_result
from support.studies import COMMAND
from support.sweeps import LEAVE_RESULT

from merge.api import merge_results
from merge.errors import ConfigChangedError
from merge.records.sweep import Run, Sweep, read_sweep
from merge.results.documents import view_bytes
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.local.spec import ensure_spec
from orchestrator.slurm.task import task_runs
from replicate import api
from replicate.catalogue import STUDIES

SHOTS, FOLDS = "shot: [1, 5]", "fold: [0, 1, 2, 3]"
WHOLE = {
    "fold: [0, 1]": FOLDS,
    "[efficientnet_lite0, efficientnet_lite1, efficientnet_lite2]": "[efficientnet_lite0]",
    "exclude:\n  - {backbone: [efficientnet_lite1, efficientnet_lite2], shot: 5}\n": "",
}
"""What makes the demo's grid whole: one backbone, and each combination of shot and fold."""


def demo(folder: Path, shots: str = SHOTS, folds: str = FOLDS, **changes: str) -> Path:
    """The demo study with fewer shots or folds, as a person would edit it."""
    text = (STUDIES / "demo.yaml").read_text()
    if "5" not in shots:
        text = text.replace("  - when: {shot: 5}", "  - when: {shot: 1}").replace(": 24", ": 64")
    for old, new in {**WHOLE, SHOTS: shots, FOLDS: folds, **changes}.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "demo.yaml"
    path.write_text(text)
    return path


def train(study: Path, output: Path, **where: Any) -> Sweep:
    """Plan `study` in `output` and leave the result of each run there, as a training would."""
    plan = api.plan(study, where=where or None)
    sweep = api.freeze_plan(plan, output)
    for run in plan.runs:
        leave_result(output, run)
    api.merge(output)
    return sweep


def leave_result(output: Path, run: Run) -> None:
    value = 0.1 * int(run.axes["fold"]) + 0.01 * int(run.axes["shot"])
    write_json(SweepPaths(output).run(run.path).result, make_result(run, value).to_json())


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The merged view of the demo grid that was planned at once."""
    train(demo(tmp_path), tmp_path / "whole")
    return SweepPaths(tmp_path / "whole").results.read_bytes()


def test_the_demo_grid_grown_twice_in_one_folder_is_the_grid_planned_whole(
    tmp_path: Path, whole: bytes
) -> None:
    out = tmp_path / "out"
    first = train(demo(tmp_path, "shot: [1]", "fold: [0, 1, 2]"), out)
    train(demo(tmp_path, "shot: [1]"), out)
    last = train(demo(tmp_path), out)
    assert SweepPaths(out).results.read_bytes() == whole
    planned = {run.run_id: run for run in last.runs}
    assert all(planned[run.run_id] == run for run in first.runs)
    assert last.runs == read_sweep(tmp_path / "whole" / "sweep.json").runs
    assert [len(growth.runs) for growth in last.growth] == [1, 4]
    assert all("name: demo" in growth.study for growth in last.growth)


def test_the_demo_grid_in_two_folders_merges_to_the_grid_planned_whole(
    tmp_path: Path, whole: bytes
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(demo(tmp_path, "shot: [1]", "fold: [0, 1, 2]"), one)
    train(demo(tmp_path, folds="fold: [0, 1, 2]"), one)
    train(demo(tmp_path, folds="fold: [3]"), two)
    assert view_bytes(merge_results([one, two])) == whole
    assert view_bytes(merge_results([two, one])) == whole
    # Views merge like the folders that they came from, and any number of times.
    merge_results([one], tmp_path / "view.json")
    for inputs in ([tmp_path / "view.json", two], [two, tmp_path / "again.json", one]):
        merge_results(inputs, tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == whole


def test_the_order_in_which_values_were_planned_does_not_matter(
    tmp_path: Path, whole: bytes
) -> None:
    out = tmp_path / "out"
    train(demo(tmp_path, "shot: [5]", "fold: [3, 1]"), out)
    train(demo(tmp_path, "shot: [1]", "fold: [0, 2]"), out)
    train(demo(tmp_path), out)
    assert SweepPaths(out).results.read_bytes() == whole


def test_a_filter_is_no_smaller_plan(tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "out"
    notes: list[str] = []
    train(demo(tmp_path), out, fold=0)
    before = SweepPaths(out).sweep.read_bytes()
    train(demo(tmp_path), out, fold=[0, 1])
    api.freeze_plan(api.plan(demo(tmp_path), where={"shot": 1}), out, notes.append)
    assert (SweepPaths(out).sweep.read_bytes(), notes) == (before, [])
    train(demo(tmp_path), out)
    assert SweepPaths(out).results.read_bytes() == whole


def test_runs_that_the_study_no_longer_names_stay_and_are_named(
    tmp_path: Path, whole: bytes
) -> None:
    out = tmp_path / "out"
    train(demo(tmp_path), out)
    notes: list[str] = []
    plan = api.plan(demo(tmp_path, folds="fold: [0, 1, 2]"))
    api.check_plan(plan, out, notes.append)
    (note,) = notes
    assert note.startswith("this study does not name 2 of the 8 planned runs; they stay in ")
    assert note.count("shot-fold3") == 2
    api.freeze_plan(plan, out)
    api.merge(out)
    assert SweepPaths(out).results.read_bytes() == whole


def test_cells_that_are_means_over_different_folds_are_told(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(demo(tmp_path, "shot: [1]", "fold: [0, 1]"), one)
    train(demo(tmp_path, "shot: [5]", "fold: [0]"), two)
    name = "shapes5i_efficientnet_lite0"
    note = f"cells are means over different values of fold: 0, 1 in {name}_1shot; 0 in {name}_5shot"
    assert api.merge(one, two, into=tmp_path / "view.json").notes == (note,)
    assert api.merge(one).notes == ()
    train(demo(tmp_path, "shot: [5]", "fold: [0]"), one)
    assert api.merge(one).notes == (note,)


def test_what_changes_is_refused_by_its_runs_and_nothing_is_added(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(demo(tmp_path, "shot: [1]"), out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    more = demo(tmp_path, **{"  epochs: 3": "  epochs: 4"})
    for use in (api.freeze_plan, api.check_plan):
        with pytest.raises(ConfigChangedError, match=r"epochs: 3 -> 4 \(in 4 runs: shapes5i_.*1sh"):
            use(api.plan(more), out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    train(more, tmp_path / "other")
    with pytest.raises(ConfigChangedError, match=r"other and .*out plan the same runs"):
        merge_results([out, tmp_path / "other"])


WIDE = COMMAND + "fixed: {wd: 0.5}\n"
WITH_AXIS = COMMAND.replace("  seed: [0, 1, 2]", "  wd: [0.5, 0.25]\n  seed: [0, 1, 2, 3]")


def test_an_axis_that_is_added_leaves_planned_runs_their_folders(tmp_path: Path) -> None:
    out, study = tmp_path / "out", tmp_path / "study.yaml"
    study.write_text(WIDE)
    first = api.freeze_plan(api.plan(study), out)
    shutil.copytree(out, tmp_path / "copy")
    run = first.runs[0]
    ensure_spec(SweepPaths(out).run(run.path), run.to_spec(first))
    study.write_text(WITH_AXIS)
    plan = api.plan(study, output=out, where={"wd": 0.5})
    grown = api.freeze_plan(plan, out)
    assert [axis.name for axis in grown.axes] == ["lr", "wd", "seed"]
    planned = {each.run_id: each for each in grown.runs}
    for each in first.runs:
        kept = planned[each.run_id]
        assert (kept.path, kept.cell, kept.config_hash) == (each.path, each.cell, each.config_hash)
        assert kept.axes == {**each.axes, "wd": 0.5}
    # A new seed of an old cell is counted there; a new value has cells of its own.
    cells = {(run.axes["wd"], run.axes["seed"]): run.cell for run in grown.runs[:8]}
    assert {cells[0.5, seed] for seed in range(4)} == {"lr=0.0001"}
    assert {cells[0.25, seed] for seed in range(4)} == {"lr=0.0001,wd=0.25"}
    assert len(plan.runs) == 8
    assert len(grown.runs) == 16
    # An attempt that goes on finds its specification, which was written without the axis.
    ensure_spec(SweepPaths(out).run(run.path), planned[run.run_id].to_spec(grown))
    assert api.freeze_plan(api.plan(study, output=out), out) == grown
    assert api.freeze_plan(api.plan(study), out) == grown
    # An older copy of the folder merges with it; so does a study without the axis.
    for copy in (out, tmp_path / "copy"):
        for each in first.runs:
            result = make_result(each, 0.5, metrics={"loss": 0.5})
            write_json(SweepPaths(copy).run(each.path).result, result.to_json())
    assert merge_results([out, tmp_path / "copy"]) == merge_results([out])
    study.write_text(WIDE)
    assert api.freeze_plan(api.plan(study, output=out), out).runs == grown.runs


def test_other_templates_leave_planned_runs_their_folders(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(demo(tmp_path, folds="fold: [0, 1]"), out)
    names = {'run_path: "{cell}/fold{fold}"': 'run_path: "{cell}/{fold}"', "_{backbone}_": "-"}
    plan = api.plan(demo(tmp_path, **names), output=out)
    api.freeze_plan(plan, out)
    paths = [f"shapes5i_efficientnet_lite0_{shot}shot" for shot in (1, 5)]
    assert {run.path for run in plan.runs} == {
        *(f"{path}/fold{fold}" for path in paths for fold in (0, 1)),
        *(f"shapes5i-{shot}shot/{fold}" for shot in (1, 5) for fold in (2, 3)),
    }
    assert {run.cell for run in plan.runs} == set(paths)


def test_an_axis_that_planned_runs_have_no_value_for_is_refused(tmp_path: Path) -> None:
    out, study = tmp_path / "out", tmp_path / "study.yaml"
    study.write_text(COMMAND)
    api.freeze_plan(api.plan(study), out)
    study.write_text(WITH_AXIS)
    with pytest.raises(
        ConfigChangedError, match=r"axis wd: absent -> 0\.5, 0\.25 \(in 6 runs: lr="
    ):
        api.freeze_plan(api.plan(study, output=out), out)


def grow(study: Path, output: Path, seed: int, start: Any) -> None:
    start.wait()
    text = study.read_text().replace("seed: [0, 1, 2]", f"seed: [0, {seed}]")
    own = study.with_name(f"study{seed}.yaml")
    own.write_text(text)
    api.freeze_plan(api.plan(own), output)


@pytest.mark.parametrize("is_local", [True, False])
def test_many_people_may_grow_one_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    if not is_local:
        # As on a mount that other hosts write to: what is written is checked again.
        from merge.storage.mounts import Mount

        monkeypatch.setattr(Mount, "is_local", property(lambda _: False))
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    study.write_text(COMMAND)
    processes = multiprocessing.get_context("fork")
    start = processes.Barrier(8)
    people = [
        processes.Process(target=grow, args=(study, out, seed, start)) for seed in range(3, 11)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join(60)
        assert person.exitcode == 0
    sweep = read_sweep(SweepPaths(out).sweep)
    assert sweep.axis("seed").values == (0, *range(3, 11))
    assert len(sweep.runs) == 18
    assert sum(len(growth.runs) for growth in sweep.growth) == 14
    assert {path.name for path in out.iterdir()} == {"sweep.json", ".plan.lock"}


SCRIPT = 'while [ ! -e "$2" ]; do sleep 0.02; done; ' + LEAVE_RESULT.strip()
SLOW = f"""\
name: slow
command: {json.dumps(["sh", "-c", SCRIPT, "sh", "{seed}", "GATE"])}
axes:
  lr: [1]
  seed: [0, 1]
average_over: seed
metric: {{name: score, goal: max}}
"""


def test_a_worker_that_started_with_the_smaller_plan_goes_on(tmp_path: Path) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    study = tmp_path / "slow.yaml"
    study.write_text(SLOW.replace("GATE", str(gate)))
    api.freeze_plan(api.plan(study), out)
    words = ["work", str(out), "--devices", "cpu:2"]
    first = subprocess.Popen(
        [sys.executable, "-m", "replicate", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PAPERGRID_CACHE_DIR": str(tmp_path)},
    )
    try:
        until = time.monotonic() + 60
        while len(list(out.glob("*/*/claim-0001.json"))) < 2:
            assert time.monotonic() < until
            assert first.poll() is None
            time.sleep(0.02)
        study.write_text(study.read_text().replace("[0, 1]", "[0, 1, 2]"))
        api.freeze_plan(api.plan(study), out)
        gate.touch()
        text = first.communicate(timeout=60)[0].decode()
    finally:
        first.kill()
    assert first.returncode == 0, text
    # The worker's own merge has the larger plan, too.
    view = json.loads(SweepPaths(out).results.read_text())
    assert view["results"]["lr=1"]["missing"] == ["2"]
    settings = api.local_settings(api.plan(study), devices="cpu:2", cache_dir=tmp_path)
    assert api.run(api.plan(study), out, settings).exit_code == 0
    assert api.merge(out).document["results"]["lr=1"]["mean"] == {"score": 1.0}
    assert read_sweep(SweepPaths(out).sweep).growth[0].runs == ("lr=1-seed=2",)


def test_a_merge_that_waited_with_the_smaller_plan_leaves_nothing_out(tmp_path: Path) -> None:
    from merge.storage.locking import exclusively

    out = tmp_path / "out"
    train(demo(tmp_path, "shot: [1]"), out)
    paths = SweepPaths(out)
    merging = threading.Thread(target=lambda: api.merge(out))

    def grow_meanwhile() -> None:
        merging.start()
        time.sleep(0.3)
        plan = api.plan(demo(tmp_path))
        api.freeze_plan(plan, out)
        for run in plan.runs:
            leave_result(out, run)

    exclusively(paths.merge_lock, grow_meanwhile, lambda: None, is_local=True)
    merging.join(60)
    assert len(json.loads(paths.results.read_text())["runs"]) == 8


def test_an_array_that_is_queued_keeps_its_runs_when_the_plan_grows(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = train(demo(tmp_path, "shot: [5]", "fold: [2, 3]"), out)
    ids = [run.run_id for run in first.runs]
    arrays = [{"name": "array-1", "tasks": [[run_id] for run_id in ids], "job_id": "1"}]
    record = {"schema": 1, "kind": "slurm", "id": "x", "created": 0, "by": "a", "host": "b"}
    write_json(SweepPaths(out).submission("x").record, {**record, "arrays": arrays, "merge": None})
    train(demo(tmp_path), out)
    task = {"SLURM_JOB_ID": "1", "SLURM_ARRAY_JOB_ID": "1"}
    for index, run in enumerate(first.runs):
        found = task_runs(out, "x", "array-1", {**task, "SLURM_ARRAY_TASK_ID": str(index)})
        assert api.frozen_plan(out, found).runs == (run,)
