"""What a notebook passes to the Python API: values of numpy, one text for a list, paths as text."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.grids import write_result
from support.studies import COMMAND, write_study

from merge.errors import UsageError
from merge.records.growth import Growth
from merge.records.sweep import Value
from replicate import api


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path, COMMAND.replace("[0, 1, 2]", "[0, 1, 10]") + "fixed: {steps: 5}")


@pytest.mark.parametrize("seed", ["10", ["10"], 10, [10], np.int64(10), np.array([10])])
def test_values_are_named_as_they_are_or_by_their_text(study: Path, seed: Value) -> None:
    runs = api.plan(study, where={"seed": seed, "lr": 1e-2}).runs
    assert [run.run_id for run in runs] == ["lr=0.01-seed=10"]


def test_settings_take_values_and_texts(study: Path) -> None:
    for value in (20, "20", np.int64(20)):
        runs = api.plan(study, settings={"steps": value}).runs
        assert {run.config["steps"] for run in runs} == {20}
    assert api.plan(study, settings={"steps": False}).runs[0].config["steps"] is False


def test_set_is_called_as_the_flag_is(study: Path, tmp_path: Path) -> None:
    assert api.plan(study, set={"steps": "1e3"}).runs[0].config["steps"] == 1000
    assert api.load_study(study, set={"steps": None}).settings == {"steps": None}
    with pytest.raises(UsageError, match="set and settings are one"):
        api.plan(study, set={"steps": 1}, settings={"steps": 1})
    lists = write_study(tmp_path, COMMAND + "fixed: {sizes: [352, 416], tags: [a]}", "lists.yaml")
    given = {"sizes": np.array([480, 512]), "tags": ("1, 2", "b")}
    assert api.plan(lists, set=given).runs[0].config["sizes"] == [480, 512]
    assert api.plan(lists, set=given).runs[0].config["tags"] == ["1, 2", "b"]
    with pytest.raises(UsageError, match="must be a list, as the study gives it, not 5"):
        api.plan(lists, set={"sizes": 5})


def test_what_is_no_single_value_is_refused(study: Path) -> None:
    with pytest.raises(
        UsageError, match=r"steps=.*: must be a single value, as the study gives it"
    ):
        api.plan(study, settings={"steps": [1, 2]})
    with pytest.raises(UsageError, match=r"steps: \[2\] is not a single value"):
        api.plan(study, settings={"steps": [1, [2]]})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="seed: None is not a single value"):
        api.plan(study, where={"seed": None})  # type: ignore[dict-item]


def test_one_axis_to_shard_by_needs_no_list(study: Path) -> None:
    assert len(api.plan(study, shard_by="seed").shards) == 3
    assert len(api.plan(study, shard_by="balanced", shard="1/2").shards) == 1


def test_folders_may_be_text(study: Path, tmp_path: Path) -> None:
    plan = api.plan(study)
    folder = str(tmp_path)
    settings = api.local_settings(plan, devices="cpu:1", data_root=folder, cache_dir=folder)
    assert (settings.data_root, settings.cache_dir) == (tmp_path, tmp_path)


def test_a_state_in_which_nothing_is_retried_is_refused(study: Path, tmp_path: Path) -> None:
    api.freeze_plan(api.plan(study), tmp_path / "out")
    runs = api.runs_of(tmp_path / "out", {"seed": 1})
    assert len(runs) == 2
    with pytest.raises(UsageError, match="no state 'canceled' to retry; there are failed, lost"):
        api.retry(tmp_path / "out", runs, ["canceled"])


def test_without_a_home_folder_the_cache_is_a_folder_of_this_user_alone(tmp_path, monkeypatch):
    """A user id that the password file does not know, as in containers."""
    for name in ("HOME", "XDG_CACHE_HOME", "PAPERGRID_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)

    def no_entry(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", no_entry)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = api.cache_folder(None)
    assert folder == tmp_path / f"papergrid-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(UsageError, match=r"belongs to another user: .*--cache-dir"):
        api.cache_folder(None)


def trained(study: Path, output: Path, command: str) -> tuple[Path, str]:
    """A plan of `study` with another command, in the folder `output`."""
    text = study.read_text().replace("[bash, train.sh, ", f"[bash, -c, '{command}', x, ")
    study.write_text(text)
    return output, str(study)


ENTRY = Growth(at=0.0, by="ann", host="here")
FAILS = 'test "$0$1" != x0.01 || { echo out of luck >&2; exit 1; }; ' + (
    'echo "{\\"metrics\\": {\\"loss\\": 0.5}}" > "$PAPERGRID_ATTEMPT_DIR/result.json"'
)


def test_a_notebook_reads_short_texts_and_the_way_to_a_log(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, name = trained(study, tmp_path / "out", FAILS)
    plan = api.plan(name, where={"seed": [0, 1]})
    settings = api.local_settings(plan, devices="cpu:2", cache_dir=tmp_path)
    report = api.run(plan, output, settings)
    # Neither a terminal nor a notebook looks on.
    assert capsys.readouterr() == ("", "")
    log = output / "lr=0.01/seed=0/attempts/0001/stderr.log"
    assert f"out of luck; log {log}" in repr(report)
    assert "2 done, 2 failed" in repr(report)
    assert log.read_text() == "out of luck\n"
    merged, status = api.merge(output), api.status(output)
    large = [
        replace(plan.shards[0], runs=plan.runs * 2500),
        replace(plan.sweep.axes[1], values=tuple(range(10_000))),
        replace(ENTRY, study="x" * 10_000),
        replace(
            api.compare(output, axis="lr", values=(1e-4, 0.01))[0],
            differences=(0.5,) * 10_000,
        ),
    ]
    for each in (plan, plan.sweep, plan.runs[0], merged, status, report, settings, *large):
        assert len(repr(each)) < 700, repr(each)
    assert repr(plan) == "<Plan of study 'plain': 4 of 6 runs, shards: 1>"
    assert "2 done" in repr(status)
    api.run(plan, output, settings, progress=True)
    shown = capsys.readouterr().err
    assert f"log {output / 'lr=0.01/seed=0/attempts/0002/stderr.log'}" in shown


def test_results_are_compared_and_framed_as_the_commands_do(study: Path, tmp_path: Path) -> None:
    plan = api.plan(study)
    output = tmp_path / "out"
    api.freeze_plan(plan, output)
    for run in plan.runs:
        write_result(output, run, 0.5, metrics={"loss": run.axes["lr"]})
    [found] = api.compare(output, axis="lr", values=("1e-4", 1e-2))
    assert found.mean == pytest.approx(0.0099)
    with pytest.raises(UsageError, match="two values of lr"):
        api.compare(output, axis="lr", values=("1e-4",))
    frames = [api.to_pandas(source) for source in (api.merge(output), output, [output])]
    assert all(frame.equals(frames[0]) for frame in frames)
    assert list(frames[0]["run_id"]) == [run.run_id for run in plan.runs]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda study: api.plan(study, set=["steps=1"]), "set is a mapping such as"),
        (lambda study: api.plan(study, where="lr=1e-2"), "where is a mapping such as"),
        (lambda _: api.plan({"name": "plain"}), "a study is a name, a file or"),
        (lambda study: api.run(study, "out"), "is no plan: give what api.plan"),
        (lambda _: api.merge(), "name at least one output folder"),
        (lambda _: api.merge(["a", "b"]), "give paths one by one"),
        (lambda _: api.compare("a", axis="lr", values=None), "compare takes two values of lr"),
        (lambda _: api.compare(axis="lr", values=(1, 2)), "name at least one output folder"),
    ],
)
def test_what_a_function_does_not_take_is_named(
    study: Path, call: Callable[[Path], object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        call(study)
