"""Phrases that a reader took for riddles have a plain word, and do not come back."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path

import pytest

from replicate.cli.main import VERBS

ROOT = Path(__file__).parents[3]

PLAIN = {
    r"signs? of life": "heartbeat",
    r"without a word": "without a final record",
    r"nobody": "no process, no person",
    r"happenings?": "event",
    r"fates?": "outcome",
    r"doings": "what it does",
    r"surroundings": "environment",
    r"ledgers?": "record",
    r"python door": "Python API",
}
"""Replaced phrase -> what to write instead."""

REPLACED = re.compile(rf"\b(?:{'|'.join(PLAIN)})\b", re.IGNORECASE)

FOLDERS = (
    *("merge", "orchestrator", "replicate", "experiments"),
    *("tests", "docs", "examples", "benchmarks", ".ci", ".github"),
)
KINDS = {".py", ".md", ".yaml", ".yml", ".json", ".toml", ".jinja", ".sh", ".cff"}

NO_PROSE = ("CHANGELOG.md", Path(__file__).relative_to(ROOT).as_posix())
"""The changelog names what was renamed; this file names the phrases."""


def prose(text: str) -> str:
    """`text` without line breaks within a sentence: of comments, and of joined strings."""
    # The account of Unix systems that has no rights is a name, not a phrase.
    text = re.sub(r"([\"'])nobody\1", "", text)
    text = re.sub(r"[\"']?\s*\n\s*(?:#\s+|f?[\"'])?", " ", text)
    return " ".join(text.split())


def replaced_in(text: str) -> list[str]:
    """The replaced phrases in `text`, each with what to write instead."""
    found = [match[0].lower() for match in REPLACED.finditer(prose(text))]
    return [
        f"{phrase}: write {plain!r}"
        for phrase in found
        for pattern, plain in PLAIN.items()
        if re.fullmatch(pattern, phrase)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("its last sign of life", ["sign of life: write 'heartbeat'"]),
        ('f"ended without "\n    f"a word"', ["without a word: write 'without a final record'"]),
        ("# in the Python\n    # door", ["python door: write 'Python API'"]),
        ("Nobody, and a FATE", ["nobody: write 'no process, no person'", "fate: write 'outcome'"]),
        ('"--user", "nobody"', []),
        ("nobody_won, fatefully", []),
    ],
)
def test_a_phrase_is_found_over_the_ends_of_lines(text, expected):
    assert replaced_in(text) == expected


def test_source_documents_and_tests_have_no_replaced_phrase():
    files = [*ROOT.glob("*.*"), *(file for name in FOLDERS for file in (ROOT / name).rglob("*.*"))]
    texts = {
        name: file.read_text(encoding="utf-8")
        for file in files
        if file.suffix in KINDS and (name := file.relative_to(ROOT).as_posix()) not in NO_PROSE
    }
    assert len(texts) > 500
    assert {name: found for name, text in texts.items() if (found := replaced_in(text))} == {}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_command_has_no_replaced_phrase(verb):
    parser = argparse.ArgumentParser(prog=verb, description=VERBS[verb])
    import_module(f"replicate.cli.verbs.{verb}").add_arguments(parser)
    assert replaced_in(parser.format_help()) == []
