"""Every promise of the five systems has a row in docs/systems.md, with a test that is there."""

from __future__ import annotations

import re

from support.named_tests import ROOT, missing_tests, rows_of

PAGE = ROOT / "docs" / "systems.md"
IDS = {"S0": 14, "S1": 15, "S2": 12, "S3": 14, "S4": 13}
"""How many promises each system has, counted from 1."""


def id_of(row: str) -> str:
    return row.split("|")[1].strip()


def test_every_promise_has_a_row():
    known = {f"{system}-{number}" for system, last in IDS.items() for number in range(1, last + 1)}
    found = {id_of(row) for row in rows_of(PAGE)}
    assert known <= found
    # What was wrong in the originals has no number: `S2: the final epoch`.
    assert [name for name in found - known if re.split("[:,]", name)[0] not in IDS] == []


def test_every_row_names_a_test_that_exists_or_says_what_supersedes_it():
    rows = rows_of(PAGE)
    assert missing_tests(rows) == []
    bare = [row for row in rows if "::" not in row and "superseded" not in row]
    assert [id_of(row) for row in bare] == []


def test_rows_stand_in_the_section_of_their_system():
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        system = section[:2]
        for row in section.splitlines():
            if re.match(r"\| S\d[-:,]", row):
                assert row[2:4] == system, row
