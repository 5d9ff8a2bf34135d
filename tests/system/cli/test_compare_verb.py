"""`replicate compare` and `replicate merge` as a person types them."""

from __future__ import annotations

import json

import pytest
from support.commands import replicate
from support.grids import make_grid, write_result, write_sweep

pytestmark = pytest.mark.system


@pytest.fixture
def output(tmp_path):
    sweep = make_grid(cells=("prototype", "abcb"))
    write_sweep(tmp_path / "out", sweep)
    for run in sweep.runs:
        better = 0.02 if run.cell == "abcb" else 0.0
        write_result(tmp_path / "out", run, 0.5 + run.axes["fold"] / 10 + better)
    return tmp_path / "out"


def compare(output, *words):
    options = ("--axis", "cell", "--values", "prototype,abcb")
    return replicate("compare", output, *options, *words, cwd=output.parent)


def test_a_comparison_shows_pairs_difference_and_p(output):
    done = compare(output)
    assert done.returncode == 0, done.stderr
    assert "4/4" in done.stdout
    assert "+2.0" in done.stdout
    assert "0.125" in done.stdout
    assert "p cannot be below 0.125" in done.stderr


def test_a_comparison_as_json_names_missing_pairs(output):
    (output / "abcb/fold3/result.json").unlink()
    done = compare(output, "--json")
    assert done.returncode == 3
    [comparison] = json.loads(done.stdout)
    assert comparison["n"] == 3
    assert comparison["mean_difference"] == pytest.approx(0.02)
    assert comparison["missing"] == ["all fold=3: abcb"]
    assert comparison["complete"] is False


def test_a_flagged_cell_is_shown_and_refused_by_strict(output):
    write_result(output, make_grid(cells=("abcb",)).runs[0], 0.5, details={"protocol": "hsnet"})
    shown = replicate("merge", output, cwd=output.parent)
    assert "not comparable: abcb: details.protocol differs between" in shown.stdout
    refused = replicate("merge", output, "--strict", cwd=output.parent)
    assert refused.returncode == 2
    assert "details.protocol differs between 0 (hsnet) and 1/2/3 (not recorded)" in refused.stderr


def test_what_could_not_be_counted_is_told_beside_the_comparison(output):
    aside = output / "abcb/fold0/result.aside-late.json"
    aside.write_bytes((output / "abcb/fold0/result.json").read_bytes())
    (output / "abcb/fold3/result.json").write_text('{"miou": 0.')
    done = compare(output)
    assert done.returncode == 1
    assert "quarantined: out/abcb/fold3/result.json: " in done.stderr
    assert "left out: out/abcb/fold0/result.aside-late.json: " in done.stderr
    assert "missing: all fold=3: abcb" in done.stderr
