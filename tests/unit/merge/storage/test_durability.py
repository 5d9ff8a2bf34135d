"""The order of system calls of each kind of write: what a power cut can never undo or tear."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from merge.storage.atomic import make_folder, move_into_place, publish_folder
from merge.storage.json_files import write_json, write_json_exclusive
from merge.storage.paths import RunPaths
from orchestrator.local.spec import ensure_spec
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Taken, take

FILE = {"x": 1}


@pytest.fixture
def calls(tmp_path, monkeypatch) -> list[str]:
    """The calls that follow, as text; names are below tmp_path, temporary ones are TEMP.

    An fsync tells how much it found: content that is written after it is not durable.
    """
    made: list[str] = []

    def name(path: str | Path) -> str:
        text = os.path.relpath(path, tmp_path)
        return re.sub(r"\.[^/]*\.tmp", "TEMP", text)

    def record(function: str, original: Callable[..., object]) -> None:
        def call(*paths: str | Path, **others: object) -> object:
            named = paths[:1] if function in ("mkdir", "unlink") else paths
            result = original(*paths, **others)
            made.append(" ".join([function, *(name(path) for path in named)]))
            return result

        monkeypatch.setattr(os, function, call)

    for function in ("mkdir", "rename", "replace", "link", "unlink"):
        record(function, getattr(os, function))
    fsync = os.fsync

    def note_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        size = f" {path.stat().st_size} bytes" if path.is_file() else ""
        fsync(descriptor)
        made.append(f"fsync {name(path)}{size}")

    monkeypatch.setattr(os, "fsync", note_fsync)
    return made


def test_a_file_is_durable_before_its_name_is_and_the_name_when_the_write_returns(tmp_path, calls):
    write_json(tmp_path / "file.json", FILE)
    assert calls == ["fsync TEMP 12 bytes", "rename TEMP file.json", "fsync ."]


def test_an_exclusive_file_is_durable_before_it_is_linked_and_the_link_when_the_write_returns(
    tmp_path, calls
):
    assert write_json_exclusive(tmp_path / "file.json", FILE)
    assert calls == ["fsync TEMP 12 bytes", "link TEMP file.json", "unlink TEMP", "fsync ."]


def test_without_an_fsync_of_its_folder_a_file_and_new_folders_above_are_durable(tmp_path, calls):
    assert write_json_exclusive(tmp_path / "new" / "file.json", FILE, fsyncs_folder=False)
    assert calls == [
        "mkdir new",
        "fsync new/TEMP 12 bytes",
        "link new/TEMP new/file.json",
        "unlink new/TEMP",
        "fsync .",
    ]


def test_spec_and_folder_of_attempts_are_durable_once_the_run_is_claimed(tmp_path, calls):
    paths = RunPaths(tmp_path / "run")
    ensure_spec(paths, {"config": {}})
    taken = take(paths, "hash", this_owner(), now=0.0)
    assert isinstance(taken, Taken)
    named = [
        "link run/TEMP run/run.json",
        "mkdir run/attempts",
        "link run/TEMP run/claim-0001.json",
    ]
    assert [call for call in calls if call in named] == named
    # One fsync for the three names, after the last of them; and one for the new folder.
    assert [call for call in calls if call in ("fsync run", "fsync .")] == ["fsync .", "fsync run"]
    assert calls[-1] == "fsync run"


def test_who_finds_a_file_there_has_made_it_durable_too(tmp_path, calls):
    """Its writer may not have come to it yet, and what follows relies on that file."""
    write_json(tmp_path / "file.json", FILE)
    calls.clear()
    assert not write_json_exclusive(tmp_path / "file.json", FILE)
    assert calls == ["fsync TEMP 12 bytes", "unlink TEMP", "fsync ."]


def test_a_finished_file_is_durable_before_it_is_moved(tmp_path, calls):
    (tmp_path / "finished").write_bytes(b"content")
    move_into_place(tmp_path / "finished", tmp_path / "file")
    assert calls == ["fsync finished 7 bytes", "rename finished file", "fsync ."]


def test_a_folder_is_durable_with_all_below_it_before_it_has_its_name(tmp_path, calls):
    def fill(folder: Path) -> str:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(b"content")
        return "digest"

    publish_folder(tmp_path, fill)
    assert calls == [
        "mkdir TEMP",
        "mkdir TEMP/inner",
        "fsync TEMP/inner/file 7 bytes",
        "fsync TEMP/inner",
        "fsync TEMP",
        "rename TEMP digest",
        "fsync .",
    ]


KINDS: dict[str, Callable[[Path], object]] = {
    "atomic": lambda folder: write_json(folder / "file", FILE),
    "exclusive": lambda folder: write_json_exclusive(folder / "file", FILE),
    "move": lambda folder: move_into_place(folder.parents[1] / "finished", folder / "file"),
    "publish": lambda folder: publish_folder(folder, lambda _: "digest"),
    "empty": make_folder,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_entries_of_new_folders_are_durable_when_a_write_returns(tmp_path, calls, kind):
    (tmp_path / "finished").write_bytes(b"content")
    KINDS[kind](tmp_path / "outer" / "inner")
    assert [call for call in calls if call.startswith("mkdir")][:2] == [
        "mkdir outer",
        "mkdir outer/inner",
    ]
    assert calls[-3:] == ["fsync outer/inner", "fsync outer", "fsync ."]


def test_a_folder_whose_parent_may_not_be_listed_can_be_made_all_the_same(tmp_path, monkeypatch):
    """To fsync a folder it must be opened; root may open any, so the refusal is made here."""
    original = os.open

    def refuse(path, *words, **others):
        if Path(path) == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *words, **others)

    monkeypatch.setattr(os, "open", refuse)
    write_json(tmp_path / "new" / "file.json", FILE)
    assert (tmp_path / "new" / "file.json").exists()


def test_a_folder_that_is_there_needs_no_permission_to_be_opened(tmp_path, calls, monkeypatch):
    """A folder of mode -wx; root may open any, so the refusal is made here."""

    def refuse(path, *_words, **_others):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    make_folder(tmp_path)
    assert not [call for call in calls if call.startswith("fsync")]
