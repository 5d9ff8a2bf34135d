"""What the README says of flags and verbs is what the parsers have."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import pytest

from replicate.cli import VERBS

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def flags_of(verb: str) -> set[str]:
    parser = argparse.ArgumentParser(prog=verb)
    importlib.import_module(f"replicate.verbs.{verb}").add_arguments(parser)
    return set(_FLAG.findall(parser.format_help()))


def test_every_flag_that_is_named_is_a_verb_s():
    assert set(_FLAG.findall(README)) <= set().union(*(flags_of(verb) for verb in VERBS))


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
