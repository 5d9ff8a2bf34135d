"""Every test that docs/reliability.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reliability.md"


def test_every_row_names_a_test_that_exists():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "::" in line]
    assert len(rows) > 90
    named = [pair for row in rows for pair in re.findall(r"(tests/[\w/]+\.py)::(\w+)", row)]
    missing = [(path, name) for path, name in named if f"def {name}(" not in text_of(path)]
    assert missing == []


def test_every_row_of_the_page_names_a_test():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and "what happened" not in line]
    assert [row for row in rows if "::" not in row] == []


def text_of(path: str) -> str:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else ""
