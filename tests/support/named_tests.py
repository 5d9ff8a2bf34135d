"""Pages whose tables name tests: `tests/path.py::test_name` in a row."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_NAMED = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def rows_of(page: Path) -> list[str]:
    """The rows of all tables of a page, without heads and rulers."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [
        line
        for number, line in enumerate(lines)
        if line.startswith("| ") and not "".join(lines[number + 1 : number + 2]).startswith("|--")
    ]


def missing_tests(rows: list[str]) -> list[tuple[str, str]]:
    """Of the tests that the rows name, those that are not there."""
    named = [pair for row in rows for pair in _NAMED.findall(row)]
    return [(path, name) for path, name in named if f"def {name}(" not in _text_of(path)]


def _text_of(path: str) -> str:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else ""
