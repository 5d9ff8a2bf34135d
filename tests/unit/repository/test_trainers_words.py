"""What merge, orchestrator and replicate know of a trainer, they read from its manifest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LAYERS = ("merge", "orchestrator", "replicate")
WORDS = re.compile(r"\b(?:miou|fewshot|few-shot|episodes?|folds?|shapes5i)\b", re.IGNORECASE)

ORIGINAL_SCRIPT = ("merge/results/legacy.py", "merge/results/legacy_files.py")
"""The form of the original script's files has these words."""

ALLOWED_LINES = {
    "merge/results/cells.py": 'COUNTED_KEY = "folds"',  # a key of every merged view
    "replicate/cli/arguments.py": '"folds": "fold"',  # the flag --folds
    "replicate/cli/main.py": "--folds 0 1",  # the same in an example
}


def lines_with(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """File and text of each line of the three layers that `pattern` is found in."""
    files = [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    assert len(files) > 100
    return [
        (str(path.relative_to(ROOT)), line.strip())
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if pattern.search(line)
    ]


def test_no_word_of_a_trainer_stands_in_another_layer():
    found = [(name, line) for name, line in lines_with(WORDS) if name not in ORIGINAL_SCRIPT]
    strangers = [(name, line) for name, line in found if ALLOWED_LINES.get(name, line) not in line]
    assert [each for each in strangers if each[0] in ALLOWED_LINES] == []
    assert [each for each in found if each[0] not in ALLOWED_LINES] == []
    assert {name for name, _ in found} == set(ALLOWED_LINES)


EXPERIMENTS = sorted(path.parent.name for path in ROOT.glob("experiments/*/manifest.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_layer_names_an_experiments_module(name):
    assert lines_with(re.compile(rf"experiments[./]{name}\b")) == []
