"""The files of this repository hold nothing of the machines that they were made on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_FOLDERS = (
    *("merge", "orchestrator", "replicate", "experiments"),
    *("tests", "docs", "examples", "benchmarks", ".ci", ".github"),
)
_MADE_HERE = {"__pycache__", "outputs"}
_INDEX = re.compile(r"(?<!emit-)index-url|find-links|\bpypi\.|pythonhosted")
_FOLDER_OF_A_MACHINE = re.compile(r"(?<![\w.])/(?:root|Users|work|home/(?!me\b)\w+)/")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Name -> text of every file that belongs to the repository, but for images and this one."""
    files = [*ROOT.iterdir(), *(file for name in _FOLDERS for file in (ROOT / name).rglob("*"))]
    return {
        str(file.relative_to(ROOT)): file.read_text(encoding="utf-8", errors="replace")
        for file in files
        if file.is_file()
        and file.suffix != ".png"
        and file.name != ".git"  # a file in a worktree, with the path of its repository
        and file != Path(__file__)
        and _MADE_HERE.isdisjoint(file.relative_to(ROOT).parts)
    }


def test_no_file_names_an_index_of_packages(texts):
    assert [name for name, text in texts.items() if _INDEX.search(text)] == []
    assert "://" not in texts["requirements.txt"]


def test_no_file_names_a_folder_of_somebodys_machine(texts):
    own = f"{ROOT}/"
    assert [
        name for name, text in texts.items() if own in text or _FOLDER_OF_A_MACHINE.search(text)
    ] == []
