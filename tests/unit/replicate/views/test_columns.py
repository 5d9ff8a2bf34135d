"""A table fits the terminal, in columns or row by row."""

from __future__ import annotations

import io
import sys

import pytest

from replicate.views.columns import align

ROWS = [
    ["miou (%)", "fold 0", "mean", ""],
    ["pascal5i_resnet50_1shot", "50.0", "51.5", "why a run failed, in " + "many " * 12 + "words"],
    ["b", "", "-", ""],
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes stdout a terminal of so many columns."""

    def make(width: int) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stdout", Terminal())

    return make


def test_a_pipe_gets_whole_rows(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert len(align(ROWS)) == 4
    assert align(ROWS)[1].startswith("-----------------------  ------")


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_on_a_narrow_terminal_each_row_is_a_block_whose_lines_fit(terminal, width):
    terminal(width)
    lines = align(ROWS)
    assert all(len(line) <= max(width, 23) for line in lines), lines
    text = " ".join(" ".join(lines).split())
    assert "fold 0 50.0" in text
    assert "many words" in text
    assert lines[-2:] == ["b", "  mean      -"]


def test_a_table_that_fits_stays_a_table(terminal):
    terminal(60)
    assert align([["a", "b"], ["1", "2"]]) == ["a  b", "-  -", "1  2"]
