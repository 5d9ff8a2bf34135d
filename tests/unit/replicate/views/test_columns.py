"""A table fits the terminal, in columns or row by row."""

from __future__ import annotations

import pytest

from replicate.views.columns import align

ROWS = [
    ["miou (%)", "fold 0", "mean", ""],
    ["pascal5i_resnet50_1shot", "50.0", "51.5", "why a run failed, in " + "many " * 12 + "words"],
    ["b", "", "-", ""],
]


def test_a_pipe_gets_whole_rows(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert len(align(ROWS)) == 4
    assert align(ROWS)[1].startswith("-----------------------  ------")


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_on_a_narrow_terminal_each_row_is_a_block_whose_lines_fit(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = align(ROWS)
    assert all(len(line) <= max(width, 23) for line in lines), lines
    text = " ".join(" ".join(lines).split())
    assert "fold 0 50.0" in text
    assert "many words" in text
    assert lines[-2:] == ["b", "  mean      -"]


def test_a_table_that_fits_stays_a_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert align([["a", "b"], ["1", "2"]]) == ["a  b", "-  -", "1  2"]
