"""What others wrote into an output folder does not reach the terminal as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.records.records import AttemptRecord, Cause, Claim, Outcome
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from replicate.cli.main import main

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202egnp\ndone all"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run that failed with hostile last words, and one whose result is damaged with some."""
    sweep = make_grid(cells=("a",), folds=(0, 1))
    write_sweep(tmp_path, sweep)
    paths = SweepPaths(tmp_path).run(sweep.runs[0].path)
    owner = this_owner()
    claim = Claim(number=1, token="t", owner=owner, heartbeat=0.0, released=True)
    write_json(paths.claim(1), claim.to_json())
    record = AttemptRecord(
        **{"number": 1, "token": "t", "owner": owner, "command": (), "device": "cpu"},
        **{"devices": (), "started": 1.0, "code": {}, "ended": 2.0, "exit_code": 1},
        **{"outcome": Outcome.FAILED, "reason": HOSTILE, "cause": Cause.UNKNOWN},
    )
    write_json(paths.attempt(1).record, record.to_json())
    write_result(tmp_path, sweep.runs[1], 0.5, run_id=HOSTILE)
    return tmp_path


@pytest.mark.parametrize(
    "words", [("status",), ("merge",), ("status", "--json"), ("merge", "--json"), ("retry",)]
)
def test_no_command_prints_a_control_character(output, capsys, words):
    main([words[0], str(output), *words[1:]])
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert not any(c in text for c in "\x1b\x07\x9b\u202e")
        assert not any(line.startswith("done all") for line in text.splitlines())
    assert words[0] == "retry" or r"\u001b]0;owned" in captured.out + captured.err
    log = str(output / "a/fold0/attempts/0001/stderr.log")
    if words in (("status",), ("merge",)):
        assert f"; log {log}\n" in captured.out
    if words == ("status", "--json"):
        runs = json.loads(captured.out)["runs"]
        assert (runs[0]["reason"], runs[0]["log"]) == (HOSTILE, log)
    elif "--json" in words:
        assert HOSTILE in json.loads(captured.out)["quarantined"][0]["reason"]


def test_a_command_line_and_a_file_name_come_out_harmless(tmp_path, capsys):
    assert main(["status", str(tmp_path / HOSTILE)]) == 2
    assert main(["--study", "\x1b[2Jdemo"]) == 2
    assert main(["stat\x1bus"]) == 2
    assert "\x1b" not in capsys.readouterr().err
