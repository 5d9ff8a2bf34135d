"""What the documents say of flags and verbs is what the parsers have."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from replicate.cli.main import VERBS

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_COMMAND = re.compile(r"^(?: {4})?(?:[\w ]*\$ )?replicate +(\S.*)$", re.MULTILINE)


def parser_of(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=verb, allow_abbrev=False)
    importlib.import_module(f"replicate.cli.verbs.{verb}").add_arguments(parser)
    return parser


def flags_of(verb: str) -> set[str]:
    return set(_FLAG.findall(parser_of(verb).format_help()))


def commands() -> list[str]:
    """Every command line of `replicate` that stands on a line of its own in a document."""
    pages = [README, *(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/**/*.md"))]
    return [found for page in pages for found in _COMMAND.findall(page.replace("\\\n", " "))]


def test_every_command_of_a_document_can_be_typed():
    assert len(commands()) > 40
    for command in commands():
        for part in re.split(r" && replicate ", command):
            words = shlex.split(part, comments=True)
            verb = "run" if words[0].startswith("-") else words.pop(0)
            parser_of(verb).parse_args(words)


def test_every_flag_that_is_named_is_a_verb_s():
    assert set(_FLAG.findall(README)) <= set().union(*(flags_of(verb) for verb in VERBS))


def test_the_python_example_calls_what_is_there():
    code = README.partition("```python\n")[2].partition("```")[0]
    imported, planned = code.split("report =")[0].split("\n\n")
    names: dict[str, Any] = {}
    exec(imported + "\n" + planned, names)
    assert len(names["plan"].runs) == 4
    assert all(hasattr(names["api"], name) for name in re.findall(r"api\.(\w+)", code))


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"work"}))
def test_every_verb_is_shown(verb):
    assert re.search(rf"(`|replicate |, ){verb}\b", README)


def test_the_verbs_with_json_and_with_a_dry_run_are_those_that_are_named():
    sentence = next(line for line in README.splitlines() if line.startswith("Every verb but"))
    without_json, with_dry_run = sentence.split("has `--json`")
    # The actions of `data` have flags of their own.
    verbs = VERBS.keys() - {"data"}
    named = set(re.findall(r"`([a-z]+)`", without_json))
    assert {verb for verb in verbs if "--json" not in flags_of(verb)} == named
    named = set(re.findall(r"`([a-z]+)`", with_dry_run))
    assert {verb for verb in verbs if "--dry-run" in flags_of(verb)} == named
