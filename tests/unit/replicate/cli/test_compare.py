"""`replicate compare` takes values as filters do."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.grids import write_result
from support.studies import COMMAND, write_study

from replicate import api
from replicate.cli.main import main


@pytest.mark.parametrize(
    ("axis", "values", "better", "told"),
    [
        ("lr", "1e-4,0.010", "0.0001", "loss: lr 0.01 minus 0.0001; below 0 where 0.01 is better"),
        (
            "flip",
            "true, false",
            "True",
            "loss: flip False minus True; below 0 where False is better",
        ),
    ],
)
def test_values_are_named_as_in_a_filter(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    axis: str,
    values: str,
    better: str,
    told: str,
) -> None:
    text = COMMAND.replace("seed: [0, 1, 2]", "flip: [true, false]\n  seed: [0, 1, 2]")
    plan = api.plan(write_study(tmp_path, text))
    api.freeze_plan(plan, tmp_path / "out")
    for number, run in enumerate(plan.runs):
        write_result(tmp_path / "out", run, number, metrics={"loss": float(number)})
    assert main(["compare", str(tmp_path / "out"), "--axis", axis, "--values", values]) == 0
    printed = capsys.readouterr().out
    assert told in printed
    assert "6/6" in printed
    # Numbers rise with the runs, and of a loss the smaller one is better.
    assert printed.splitlines()[-1].split()[3] == better


def test_of_a_metric_whose_goal_is_max_more_is_better(tmp_path, capsys):
    text = COMMAND.replace("goal: min", "goal: max")
    plan = api.plan(write_study(tmp_path, text))
    api.freeze_plan(plan, tmp_path / "out")
    for number, run in enumerate(plan.runs):
        write_result(tmp_path / "out", run, number, metrics={"loss": float(number)})
    assert main(["compare", str(tmp_path / "out"), "--axis", "lr", "--values", "1e-4,1e-2"]) == 0
    assert "above 0 where 0.01 is better" in capsys.readouterr().out
