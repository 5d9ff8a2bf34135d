"""Atomic files: what a reader can see, whatever happens to the writer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from merge.errors import RecordError, StorageError
from merge.storage.atomic import write_atomic
from merge.storage.json_files import (
    canonical_json,
    is_finite_number,
    read_json,
    write_json,
    write_json_exclusive,
)


def test_json_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"miou": 0.1 + 0.2, "name": "ä"})
    assert read_json(path) == {"miou": 0.1 + 0.2, "name": "ä"}


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})

    def fail(file):
        file.write(b"half")
        raise ValueError("interrupted")

    with pytest.raises(ValueError, match="interrupted"):
        write_atomic(path, fail)
    assert read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_not_a_number_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"miou": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_exclusive_creation_has_one_winner(tmp_path):
    path = tmp_path / "result.json"
    assert write_json_exclusive(path, {"first": True})
    assert not write_json_exclusive(path, {"first": False})
    assert read_json(path) == {"first": True}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def _race(path: Path, barrier, wins) -> None:
    barrier.wait()
    if write_json_exclusive(path, {"pid": os.getpid()}):
        wins.put(os.getpid())


def test_exclusive_creation_has_one_winner_among_processes(tmp_path):
    context = multiprocessing.get_context("spawn")
    for turn in range(3):
        barrier, wins = context.Barrier(4), context.Queue()
        racers = [
            context.Process(target=_race, args=(tmp_path / f"{turn}.json", barrier, wins))
            for _ in range(4)
        ]
        for racer in racers:
            racer.start()
        winner = wins.get(timeout=30)
        for racer in racers:
            racer.join()
        assert wins.empty()
        assert read_json(tmp_path / f"{turn}.json") == {"pid": winner}


def _rewrite_forever(path: Path, turn: int) -> None:
    number = 0
    while True:
        number += 1
        write_json(
            path, {"turn": turn, "number": number, "padding": "x" * 20_000, "end": [turn, number]}
        )


def test_a_reader_never_sees_a_part_of_a_file_when_its_writer_is_killed(tmp_path):
    path = tmp_path / "view.json"
    write_json(path, {"turn": 0, "number": 0, "padding": "", "end": [0, 0]})
    context = multiprocessing.get_context("spawn")
    for turn in range(1, 5):
        writer = context.Process(target=_rewrite_forever, args=(path, turn))
        writer.start()
        deadline = time.monotonic() + 60
        while read_json(path)["turn"] != turn and time.monotonic() < deadline:
            pass
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        document = read_json(path)
        # Each writer counts from 1: only with its turn does a number mean one document.
        assert document["turn"] == turn
        assert document["end"] == [turn, document["number"]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"miou": 0.', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "not an object"),
        (b'{"miou": NaN}', "NaN"),
        (b'{"miou": 1e999}', "larger than any number"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=reason) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert caught.value.path == path


def test_half_a_surrogate_pair_is_read_as_a_text_that_can_be_written_again(tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b'{"caf\\udce9": ["\\ud800", "\\ud83d\\ude00"]}')
    document = read_json(path)
    assert document == {"caf?": ["?", "\N{GRINNING FACE}"]}
    write_json(path, document)
    assert read_json(path) == document


def test_an_absent_file_is_no_damaged_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_a_path_through_a_file_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another folder") as caught:
        write_json(tmp_path / "file" / "x.json", {})
    assert caught.value.exit_code == 75


def test_canonical_json_is_one_text_for_one_value():
    assert canonical_json({"b": 1, "a": [1.5, True]}) == b'{"a":[1.5,true],"b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"x": float("inf")})


@pytest.mark.parametrize(
    ("value", "is_number"),
    [
        *((1, True), (0.5, True), (True, False), ("1", False), (None, False)),
        *((float("nan"), False), (float("-inf"), False), (10**400, False), (-(10**400), False)),
    ],
)
def test_only_a_finite_number_is_a_metric(value, is_number):
    assert is_finite_number(value) is is_number
