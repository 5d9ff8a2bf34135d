"""The files that start first in a run of the system tests are there under those names."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

SYSTEM = Path(__file__).parents[2] / "system"


def longest_first() -> tuple[str, ...]:
    tree = ast.parse((SYSTEM / "conftest.py").read_text(encoding="utf-8"))
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "LONGEST_FIRST"
    )
    return ast.literal_eval(value)


def test_every_file_that_starts_first_is_one_file_of_the_system_tests():
    stems = Counter(path.stem for path in SYSTEM.rglob("test_*.py"))
    assert {name: stems[name] for name in longest_first() if stems[name] != 1} == {}
