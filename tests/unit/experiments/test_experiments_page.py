"""docs/experiments.md shows the files of the example as they are, and every method of `Task`."""

from __future__ import annotations

import inspect
import re

import pytest
from support.ranks import ROOT

from experiments.runtime.task import Task

PAGE = (ROOT / "docs" / "experiments.md").read_text()
SHOWN = re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_shows_all_files_but_the_generated_one():
    files = {path.name for path in (ROOT / "examples" / "blobs").iterdir() if path.is_file()}
    assert {name for name, _ in SHOWN} == files - {"options.yaml"}


@pytest.mark.parametrize(("name", "text"), SHOWN, ids=[name for name, _ in SHOWN])
def test_a_file_is_shown_as_it_is(name, text):
    assert (ROOT / "examples" / "blobs" / name).read_text() == text


def test_the_page_lists_every_method_of_a_task_and_which_are_needed():
    rows = dict(re.findall(r"^\| (`.*?) \| (yes|) ?\|", PAGE, re.MULTILINE))
    listed = {name: need for row, need in rows.items() for name in re.findall(r"`(\w+)", row)}
    methods = [name for name, _ in inspect.getmembers(Task, inspect.isfunction)]
    public = {name for name in methods if not name.startswith("_")}
    assert set(listed) == public | {"selection", "validation_list"}
    needed = {name for name, need in listed.items() if need}
    assert needed == set(Task.__abstractmethods__) | {"selection"}
