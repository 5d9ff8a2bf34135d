"""Every test that docs/reliability.md names is there."""

from __future__ import annotations

from support.named_tests import ROOT, missing_tests, rows_of

PAGE = ROOT / "docs" / "reliability.md"


def test_every_row_names_a_test_that_exists():
    rows = [row for row in rows_of(PAGE) if "::" in row]
    assert len(rows) > 90
    assert missing_tests(rows) == []


def test_every_row_of_the_page_names_a_test():
    assert [row for row in rows_of(PAGE) if "::" not in row] == []
