"""The rooms of the packages: ARCHITECTURE.md draws their arrows, and they stay small."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("merge", "orchestrator", "replicate", "experiments")
SHARED_BY_EXPERIMENTS = ("runtime", "datasets", "backbones")
_NAME = re.compile(r"`([\w/]+?)(?:/|\.py)?`")


@cache
def sources() -> dict[Path, str]:
    """Every source file of the four packages, with its text."""
    return {
        path: path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }


def room_of(module: str) -> str:
    """`orchestrator/runs` of `orchestrator.runs.claims`; a module directly in a package is one."""
    return "/".join(module.split(".")[:2])


def imported_modules(text: str) -> Iterator[str]:
    """All modules of ours that a source imports, also inside of functions and for types only."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


@cache
def arrows() -> dict[str, set[str]]:
    """Room -> the rooms of the same package that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, text in sources().items():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        room = room_of(module)
        for name in imported_modules(text):
            other = room_of(name)
            if other != room and other.split("/")[0] == room.split("/")[0]:
                found[room].add(other)
    return found


def drawn() -> dict[str, set[str]]:
    """Room -> the rooms that its row in ARCHITECTURE says it may import."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("## Rooms")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| `")]
    return {
        room: {f"{room.split('/')[0]}/{other}" for other in re.findall(r"[\w_]+", targets)}
        for rooms, _, targets in rows
        for room in _NAME.findall(rooms)
    }


def test_every_room_is_drawn_and_no_room_that_is_gone():
    rooms = {
        room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for path in sources()
        if not path.name.startswith("__") and path.parent.name not in PACKAGES
    }
    assert len(rooms) > 20
    assert rooms <= set(drawn())
    gone = [
        room
        for room in drawn()
        if not (ROOT / room).is_dir() and not (ROOT / f"{room}.py").is_file()
    ]
    assert gone == []


@pytest.mark.parametrize("room", sorted(drawn()))
def test_a_room_imports_exactly_what_architecture_draws(room):
    assert arrows().get(room, set()) == drawn()[room]


def test_an_experiment_imports_no_other_and_nothing_shared_imports_one():
    shared = {f"experiments/{name}" for name in SHARED_BY_EXPERIMENTS}
    for room, others in arrows().items():
        if room.startswith("experiments/"):
            assert others <= shared, room


def test_no_room_holds_more_than_15_percent_of_the_code():
    lines: dict[str, int] = defaultdict(int)
    for path, text in sources().items():
        lines[room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))] += text.count("\n")
    total = sum(lines.values())
    assert {room: n for room, n in lines.items() if n > 0.15 * total} == {}


def test_no_source_file_has_more_than_300_lines():
    counts = {str(path.relative_to(ROOT)): text.count("\n") for path, text in sources().items()}
    assert {name: n for name, n in counts.items() if n > 300} == {}


def test_functions_are_short():
    lengths = [
        node.end_lineno - node.lineno + 1
        for text in sources().values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert median(lengths) <= 8
    assert quantiles(lengths, n=10)[-1] <= 20
