"""Published numbers are found, checked and chosen by the study."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.studies import TOY, study_of

from merge.errors import StudyError

PUBLISHED_FOLDER = Path(__file__).resolve().parents[4] / "replicate" / "published"

PUBLISHED = """\
title: A paper
metric: miou
other_metrics: [fb_iou, mae]
average_over: {fold: [0, 1, 2, 3]}
methods:
  ONE:
    source: table 1
    cells:
      a_1shot: {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4, mean: 0.25, fb_iou: 0.5}
      a_5shot: {mean: 0.3, mae: 3, fb_iou: 0.6, note: "as printed"}
  TWO:
    cells: {a_1shot: {mean: 0.2}}
"""


def publish(folder: Path, text: str, name: str = "paper") -> None:
    (folder / "published").mkdir(exist_ok=True)
    (folder / "published" / f"{name}.yaml").write_text(text)


def test_a_study_gets_the_rows_of_its_method(tmp_path: Path) -> None:
    publish(tmp_path, PUBLISHED)
    study = study_of(tmp_path, TOY + "published: {file: paper, method: ONE}")
    assert study.published == {
        "source": "A paper; table 1",
        "method": "ONE",
        "cells": {
            "a_1shot": {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.4, "mean": 0.25},
            "a_5shot": {"mean": 0.3},
        },
        "others": {"TWO": {"a_1shot": {"mean": 0.2}}},
        "notes": {"a_1shot": "fb_iou 0.5", "a_5shot": "as printed; fb_iou 0.6, mae 3"},
    }


def test_a_file_of_ones_own_lies_beside_the_study(tmp_path: Path) -> None:
    only_one = PUBLISHED.partition("  TWO")[0]
    (tmp_path / "mine.yaml").write_text(only_one)
    assert (
        study_of(tmp_path, TOY + "published: mine.yaml").published["source"].startswith("A paper")
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("published: papper", "there are no published numbers 'papper': did you mean 'paper'?"),
        ("published: paper", "name one of the methods, ONE, TWO, such as {file: paper"),
        ("published: {file: paper, method: ON}", "no method 'ON': did you mean 'ONE'?"),
        ("published: {file: paper, mthod: ONE}", "unknown key: did you mean 'method'?"),
        ("published: other.yaml", "there are no published numbers 'other.yaml'"),
    ],
)
def test_numbers_that_are_not_there_are_told(tmp_path: Path, asked: str, message: str) -> None:
    publish(tmp_path, PUBLISHED)
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, TOY + asked)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{mean: 0.2}", "{meen: 0.2}", "paper.yaml:12:23 methods.TWO.cells.a_1shot.meen: unknown"),
        ("{mean: 0.2}", "{mean: 70.6 %}", "must be a number, not '70.6 %'"),
        ("{mean: 0.2}", "{4: 0.2}", "unknown key; known: 0, 1, 2, 3, mean"),
        ("title: A paper\n", "", "title: missing"),
        ("as printed", "5", "must be text"),
        ("[fb_iou, mae]", "[fb_iou, mean, mae]", "other_metrics: 'mean' is a key of the table's"),
    ],
)
def test_a_damaged_file_of_numbers_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    publish(tmp_path, PUBLISHED.replace(old, new).replace('"5"', "5"))
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, TOY + "published: {file: paper, method: ONE}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "asked", "message"),
    [
        (
            "metric: miou",
            "metric: error",
            "",
            "paper.yaml has numbers of metric 'error', the study shows 'miou'",
        ),
        ("{mean: 0.2}", "{mean: 20.1}", "", "paper.yaml: TWO, a_1shot, mean: 20.1 is outside of"),
        ("0: 0.1", "0: -0.1", "", "paper.yaml: ONE, a_1shot, 0: -0.1 is outside of"),
        ("{fold: [", "{seed: [", "", "has numbers for each seed, and a cell of the study averages"),
        (
            "as printed",
            "as it is",
            ", tolerance: 1",
            "tolerance 1 is as wide as the metric's range",
        ),
    ],
)
def test_numbers_that_cannot_stand_beside_the_study_are_refused(
    tmp_path: Path, old: str, new: str, asked: str, message: str
) -> None:
    publish(tmp_path, PUBLISHED.replace(old, new))
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, TOY + f"published: {{file: paper, method: ONE{asked}}}")
    assert message in str(caught.value)


def test_means_alone_may_be_over_another_axis(tmp_path: Path) -> None:
    text = PUBLISHED.replace("{fold: [", "{seed: [").replace("0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4, ", "")
    publish(tmp_path, text)
    study = study_of(tmp_path, TOY + "published: {file: paper, method: ONE}")
    assert study.published["cells"]["a_1shot"] == {"mean": 0.25}


def test_numbers_of_another_table_are_refused(tmp_path: Path) -> None:
    publish(tmp_path, PUBLISHED.replace("a_", "z_"))
    with pytest.raises(StudyError, match=r"no cell of paper\.yaml is one of this study"):
        study_of(tmp_path, TOY + "published: {file: paper, method: ONE}")


def test_a_published_mean_that_is_not_the_mean_of_its_folds_says_so() -> None:
    document = yaml.safe_load((PUBLISHED_FOLDER / "abcb.yaml").read_text("utf-8"))
    for method, entry in document["methods"].items():
        for name, cell in entry["cells"].items():
            if 0 in cell:
                average = sum(cell[fold] for fold in range(4)) / 4
                is_off = abs(average - cell["mean"]) > 0.0005 + 1e-9
                assert ("note" in cell) is is_off, (method, name, average)
                assert not is_off or f"average {average:.3f}" in cell["note"]
