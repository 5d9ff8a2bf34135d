"""Each package that is imported from elsewhere is declared in pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OURS = ("merge", "orchestrator", "replicate", "experiments")
IMPORTED_AS = {
    "boto3": ("boto3", "botocore"),
    "jinja2": ("jinja2", "markupsafe"),
    "matplotlib": ("matplotlib", "numpy"),
    "opencv-python-headless": ("cv2",),
    "pillow": ("PIL",),
    "pydantic": ("pydantic", "pydantic_core"),
    "pyyaml": ("yaml",),
}
"""Distributions that are imported by other names than their own, or bring the types they take."""


def imported(package: str) -> Iterator[tuple[str, str]]:
    """File and top-level module of each import of a package from elsewhere."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            else:
                continue
            for name in names:
                module = name.split(".")[0]
                if module not in (*sys.stdlib_module_names, *OURS, "_typeshed"):
                    yield str(path.relative_to(ROOT)), module


def distributions(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [project["optional-dependencies"][extra] for extra in extras]
    lines = [line for lines in (project["dependencies"], *optional) for line in lines]
    return {re.split(r"[<>=! \[]", line)[0].lower() for line in lines}


def declared(*extras: str) -> set[str]:
    """Top-level modules of what pyproject.toml declares."""
    names = distributions(*extras)
    return {module for name in names for module in IMPORTED_AS.get(name, (name.replace("-", "_"),))}


@pytest.mark.parametrize("package", OURS)
def test_what_is_imported_is_declared(package):
    allowed = declared("train") if package == "experiments" else declared()
    found = set(imported(package))
    assert found
    assert {(path, module) for path, module in found if module not in allowed} == set()


def test_what_is_declared_is_pinned():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = {line.split("==")[0].lower() for line in text.splitlines() if "==" in line}
    assert {name.replace("_", "-") for name in distributions("train")} - pinned == set()
