"""The error tree: drawn as it is, with the documented exit codes, and whole after pickling."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from merge import errors
from merge.errors import (
    INTERRUPTED_EXIT_CODE,
    BucketUnavailableError,
    PapergridError,
    RecordError,
    ServersError,
    StorageError,
    StudyError,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "exit-codes.md"
CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, PapergridError)
]


def drawn() -> dict[str, tuple[str | None, int | None]]:
    """Name -> the parent and the exit code (None: the parent's) that the docstring draws."""
    found: dict[str, tuple[str | None, int | None]] = {}
    above: list[str] = []
    assert errors.__doc__
    for line in errors.__doc__.splitlines():
        match = re.match(r"((?:[|`]?(?:   |-- ))*)(\w+Error)\b.*?(?:\(exit (\d+)\))?$", line)
        if match:
            del above[len(match[1]) // 4 :]
            found[match[2]] = (above[-1] if above else None, int(match[3]) if match[3] else None)
            above.append(match[2])
    return found


def documented() -> dict[int, set[str]]:
    """Exit code -> the names in the last column of the page's table."""
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {int(code): set(re.findall(r"`(\w+)`", names)) for code, names in rows}


def test_the_docstring_draws_every_error_below_its_parent():
    bases = {each.__name__: each.__base__ for each in CLASSES}
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        name: base.__name__ if base and base is not Exception else None
        for name, base in bases.items()
    }


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.__name__)
def test_an_exit_code_is_as_drawn(each):
    parent, code = drawn()[each.__name__]
    if code is not None:
        assert each.exit_code == code
    elif parent is not None:
        assert each.exit_code == each.__base__.exit_code


def test_the_page_of_exit_codes_names_every_error_that_is_raised_with_its_code():
    raised: dict[int, set[str]] = {}
    for each in CLASSES:
        if each.__name__ not in ("PapergridError", "FileError"):
            raised.setdefault(each.exit_code, set()).add(each.__name__)
    table = documented()
    assert {code: names for code, names in table.items() if code in raised} == raised
    assert set(table) == {0, *raised, INTERRUPTED_EXIT_CODE}


@pytest.mark.parametrize(
    "error",
    [
        RecordError("a.json is damaged", path=Path("a.json")),
        RecordError("an object is damaged"),
        StorageError("the disk is full", path=Path("/out")),
        StudyError("study.yaml", ("line 1: wrong", "line 2: wrong")),
        ServersError(("gpu1: away",)),
        BucketUnavailableError("credentials have expired", is_transient=False),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_and_its_facts_survive_pickling(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
