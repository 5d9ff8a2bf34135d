"""Pipes, devices, sockets and folders under the names of files neither hang nor break a command."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.records.records import AttemptRecord, Claim
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from replicate.cli.main import main

NAMES = (
    "result.json",
    "claim-0001.json",
    "request-0001.json",
    "result.aside-x.json",
    "attempts/0001/attempt.json",
    "attempts/0001/events.jsonl",
    "attempts/0001/stderr.log",
    "checkpoints",
)
SWEEP = make_grid(cells=("a",), folds=tuple(range(len(NAMES) + 1)))
KINDS = pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The last run is done, an executor has begun the others."""
    # A relative name: that of a socket has at most 107 bytes.
    monkeypatch.chdir(tmp_path)
    folder = Path("out")
    write_sweep(folder, SWEEP)
    write_result(folder, SWEEP.runs[-1], 0.5)
    owner = this_owner()
    claim = Claim(number=1, token="t", owner=owner, heartbeat=0.0)
    record = AttemptRecord(
        **{"number": 1, "token": "t", "owner": owner, "command": (), "device": "cpu"},
        **{"devices": (), "started": 1.0, "code": {}},
    )
    for run in SWEEP.runs[:-1]:
        paths = SweepPaths(folder).run(run.path)
        write_json(paths.claim(1), claim.to_json())
        write_json(paths.attempt(1).record, record.to_json())
    return folder


def put(kind: str, path: Path) -> None:
    """Something of `kind` at `path`, instead of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        path.mkdir()


@KINDS
def test_no_command_hangs_or_breaks(output: Path, capsys, kind: str) -> None:
    for run, name in zip(SWEEP.runs, NAMES, strict=False):
        put(kind, output / run.path / name)
    assert main(["status", str(output)]) == 0
    # Results that cannot be read are left out, and said so.
    assert main(["merge", str(output)]) == 1
    assert main(["retry", str(output), "--dry-run"]) == 0
    # The folder holds the plan of another study: refused, after every file was looked at.
    assert main(["plan", "--study", "demo", "--output-dir", str(output)]) == 2
    shown = capsys.readouterr()
    assert "a/fold0/result.json" in shown.out + shown.err
    assert "is a pipe, a device or a folder" in shown.err or kind in ("socket", "folder")


def test_a_picture_that_is_no_file_is_named(output: Path, capsys) -> None:
    put("pipe", output / SWEEP.runs[0].path / "panels" / "one.png")
    assert main(["report", str(output), "--forms", "md"]) == 1
    assert "one.png is not a picture" in capsys.readouterr().err


@KINDS
def test_a_plan_that_is_no_file_is_named_and_an_index_is_ignored(
    output: Path, capsys, kind: str
) -> None:
    if kind != "folder":
        put(kind, output / ".merge-index.json")
        assert main(["merge", str(output)]) == 3
    put(kind, output / "sweep.json")
    assert [main([verb, str(output)]) for verb in ("status", "merge")] == [1, 1]
    assert "sweep.json cannot be read" in capsys.readouterr().err
