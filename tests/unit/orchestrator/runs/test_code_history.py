"""The code of all attempts that one result was trained by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from merge.records.records import AttemptRecord, Outcome, Owner
from merge.records.sweep import Run
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths
from orchestrator.runs.code_history import earlier_code, first_trained, recorded_attempts

OLD, NEW = {"source": "old"}, {"source": "new"}


def attempt(
    number: int, code: dict[str, Any], outcome: Outcome | None, **fields: Any
) -> AttemptRecord:
    return AttemptRecord(
        number=number,
        token=f"t{number}",
        owner=Owner(host="h", pid=1, pid_started="1", boot_id="b"),
        command=("x",),
        device="cpu",
        devices=(),
        started=float(number),
        code=code,
        outcome=outcome,
        **fields,
    )


def run_of(kind: str) -> Run:
    names: dict[str, Any] = {"experiment": "toy"} if kind == "experiment" else {"command": ("x",)}
    return Run(run_id="r", path="r", cell="c", axes={}, config={}, config_hash="", **names)


@pytest.mark.parametrize(
    ("kind", "outcome", "left", "counts"),
    [
        ("command", Outcome.INTERRUPTED, "", True),
        ("command", None, "", True),
        ("command", Outcome.LOST, "", True),
        ("command", Outcome.FAILED, "", False),
        ("command", Outcome.FAILED, "state.json", True),
        ("command", Outcome.FAILED, "checkpoints/last.pt", True),
        ("command", Outcome.FAILED, "attempts/0001/model.npz", True),
        ("command", Outcome.FAILED, "attempts/0001/events.jsonl", True),
        ("command", Outcome.FAILED, "attempts/0001/stderr.log", False),
        ("command", Outcome.FAILED, "claim-0001.json", False),
        ("experiment", Outcome.INTERRUPTED, "", False),
        ("experiment", Outcome.FAILED, "tensorboard/x", False),
        ("experiment", Outcome.FAILED, "checkpoints/last.pt", True),
    ],
)
def test_an_attempt_counts_unless_it_left_nothing_to_continue(
    tmp_path: Path, kind: str, outcome: Outcome | None, left: str, counts: bool
) -> None:
    paths = RunPaths(tmp_path / "r")
    paths.attempt(1).root.mkdir(parents=True)
    if left:
        (paths.root / left).parent.mkdir(parents=True, exist_ok=True)
        (paths.root / left).write_text("{}")
    since = first_trained(run_of(kind), paths, [attempt(1, OLD, outcome)], 2)
    assert since == (1 if counts else 2)


def test_every_attempt_since_the_training_began_is_named_with_its_code(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "r")
    past = [
        attempt(1, OLD, Outcome.FAILED, trained_since=1),
        # The first left nothing: this one began anew.
        attempt(2, OLD, Outcome.INTERRUPTED, trained_since=2),
        attempt(3, OLD, None, trained_since=2),
        attempt(4, NEW, Outcome.INTERRUPTED, trained_since=2),
        attempt(5, {"source": "newer"}, Outcome.FAILED, trained_since=2),
    ]
    assert first_trained(run_of("command"), paths, past, 6) == 2
    found = earlier_code(past, 2, NEW)
    assert [(each["attempts"], each["source"]) for each in found] == [
        ([2, 3], "old"),
        ([5], "newer"),
    ]
    assert earlier_code(past[:3], 2, OLD) == ()


def test_attempts_of_hosts_whose_claims_are_elsewhere_are_found(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "r")
    assert recorded_attempts(paths) == ()
    for number in (1, 3):
        write_json(paths.attempt(number).record, attempt(number, OLD, Outcome.LOST).to_json())
    paths.attempt(2).root.mkdir()
    assert [each.number for each in recorded_attempts(paths)] == [1, 3]


def test_a_commit_alone_is_no_other_code_but_other_changes_on_it_are() -> None:
    def named(**code: Any) -> bool:
        past = [attempt(1, {"source": "s", "git_commit": "a", "git_diff": None} | code, None)]
        return bool(earlier_code(past, 1, {"source": "s", "git_commit": "a", "git_diff": None}))

    assert not named()
    assert not named(git_commit="b")
    # Committing changes makes no other code of them.
    assert not named(git_commit="b", git_diff="1")
    assert named(git_diff="1")
    assert named(source="t")
    assert named(version="2")
