"""Reading YAML: plain data with places, and nothing that surprises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.studies import COMMAND, study_of

from merge.errors import StudyError
from merge.storage.paths import RunPaths
from orchestrator.config.templates import (
    LAUNCH_PLACEHOLDERS,
    command_placeholders,
    fill_placeholders,
    path_problem,
)
from orchestrator.config.values import is_named_by, parse_scalar, slug, text_of
from orchestrator.config.yaml_document import read_document
from orchestrator.machine.launch import Assignment, build_launch
from orchestrator.studies.grid import expand


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("0", 0),
        ("-7", -7),
        ("007", "007"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"),
        ("9" * 19, 10**19 - 1),
        ("9" * 5000, "9" * 5000),
        ("yes", "yes"),
        ("off", "off"),
        ("True", True),
        ("~", None),
        ("nan", "nan"),
    ],
)
def test_a_plain_scalar_stands_for_what_it_looks_like(text: str, value: object) -> None:
    parsed = parse_scalar(text)
    assert (type(parsed), parsed) == (type(value), value)


@given(st.one_of(st.integers(-(10**40), 10**40), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_number_is_named_by_its_own_text(value: float) -> None:
    assert is_named_by(value, text_of(value))
    assert parse_scalar(text_of(value)) == value


@pytest.mark.parametrize(
    ("value", "text", "is_named"),
    [
        *((0.0001, text, True) for text in ("1e-4", "0.00010", "1E-04")),
        *((1, text, True) for text in ("1.0", "+1", "1e0")),
        *((1, text, False) for text in ("true", "01", "'1'")),
        *((False, text, True) for text in ("off", "no", "False")),
        *((False, text, False) for text in ("0", "n")),
        *(("83e2010", text, True) for text in ("'83e2010'", '"83e2010"')),
        ("83e2010", "83e02010", False),
        ("010", "10", False),
    ],
)
def test_a_value_is_named_by_another_spelling_of_it_and_by_no_other_value(
    value: object, text: str, is_named: bool
) -> None:
    assert is_named_by(value, text) is is_named


@given(st.text(min_size=1))
def test_no_value_can_leave_the_output_folder(text: str) -> None:
    path = f"runs/x{slug(text)}/{slug(text)}"
    if path_problem(path) is None:
        assert all(part not in ("", ".", "..") for part in path.split("/"))
        assert path.count("/") == 2
        assert path.isascii()
        assert path.isprintable()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1, 2", "1:9"),
        ("a: 1\n b: 2", "2:3"),
        ("a: 1\n---\nb: 2", "2:1"),
        ("a:\t- 1\n\t- 2", "1:3"),
        ("a: *nowhere", "1:4"),
    ],
)
def test_text_that_is_no_yaml_is_told_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        read_document(path)
    assert caught.value.problems[0].startswith(f"x.yaml:{place}: invalid YAML: ")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
            for old, new in zip("abcdef", "bcdefg", strict=True)
        ),
        "a: &a [*a]",
        "a: " + "[" * 500 + "]" * 500,
        "a: " + "[" * 3_000,
    ],
    ids=["aliases that blow up", "a list inside itself", "deep", "very deep"],
)
def test_a_file_that_unfolds_without_end_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match="nested too deeply"):
        read_document(path)


def test_an_alias_is_read_as_what_it_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("\ufeffa: &x {k: [1, on]}\nb: *x\n", encoding="utf-8")
    assert read_document(path).data == {"a": {"k": [1, "on"]}, "b": {"k": [1, "on"]}}


def test_control_characters_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: x\x00y")
    with pytest.raises(StudyError, match="invalid YAML"):
        read_document(path)


@given(
    st.lists(
        st.sampled_from(
            ["{lr}", "{{lr}}", "${lr}", "{x}", "{", "}", "a", "{1}", "{x y}", "{{", "$"]
        )
    ).map("".join)
)
def test_placeholders_that_are_checked_are_those_that_a_launch_fills(word: str) -> None:
    names = command_placeholders([word])
    filled = fill_placeholders((word,), dict.fromkeys(names, "<filled>"))
    assert filled[0].count("<filled>") == len(names)


def test_a_command_keeps_braces_that_are_no_placeholders(tmp_path: Path) -> None:
    text = COMMAND.replace('"{lr}"', '"awk \'{print $1}\'", "${HOME}", "{{lr}}", 5')
    command = study_of(tmp_path, text).command
    assert command == ("bash", "train.sh", "awk '{print $1}'", "${HOME}", "{{lr}}", "5")


def test_a_launch_fills_every_placeholder_that_a_study_may_use(tmp_path: Path) -> None:
    words = ", ".join(f'"{{{name}}}"' for name in LAUNCH_PLACEHOLDERS)
    run = expand(study_of(tmp_path, COMMAND.replace('"{lr}"', words)))[0]
    given_to_it = Assignment(
        paths=RunPaths(tmp_path / "run"),
        number=1,
        token="t",
        executor="e",
        kind="cpu",
        devices=("0",),
        port=1,
        cwd=tmp_path,
        cache_dir=tmp_path,
    )
    launch = build_launch(run, given_to_it, {})
    assert not any("{" in word for word in launch.argv)
