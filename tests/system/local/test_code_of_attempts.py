"""A run that is resumed, or started, after its code changed carries the code of all attempts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.executors import run_here
from support.sweeps import make_sweep, write_sweep

from merge.errors import IncomparableError
from merge.records.records import read_attempt
from merge.results.view import rebuild
from merge.storage.paths import SweepPaths
from orchestrator.local.events import LocalReport, RunOutcome
from orchestrator.plan.code_watch import CodeWatch

TRAIN = """
import json, os, sys
from model import STEP
state = os.environ["PAPERGRID_RUN_DIR"] + "/state"
value = int(open(state).read()) if os.path.exists(state) else 0
for epoch in range(value and 3, 6):
    value += STEP
    if epoch == 2 and os.environ["PAPERGRID_CONFIG_FOLD"] == "0" and STEP == 1:
        open(state, "w").write(str(value))
        sys.exit("stopped in the middle")
with open(os.environ["PAPERGRID_ATTEMPT_DIR"] + "/result.json", "w") as file:
    json.dump({"metrics": {"score": value}}, file)
"""


def test_steps_of_two_versions_of_a_module_are_not_one_number(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "model.py").write_text("STEP = 1\n")
    output = tmp_path / "out"
    sweep = make_sweep([sys.executable, "train.py"], folds=2, launcher="none")
    write_sweep(output, sweep)

    def run() -> LocalReport:
        watch = CodeWatch(sweep, tmp_path)
        return run_here(sweep, output, cwd=tmp_path, watch_code=watch)

    first = run()
    assert [each.outcome for each in first.endings.values()] == [RunOutcome.FAILED, RunOutcome.DONE]
    (tmp_path / "model.py").write_text("STEP = 100\n")
    run()
    merged = rebuild(output)
    assert merged.document["results"]["run"]["mean"] == {"score": (3 + 3 * 100 + 6) / 2}
    code, attempts = merged.document["results"]["run"]["flags"]
    assert code["differs"] == "code.source"
    assert attempts["differs"] == "code of attempts"
    mixed, whole = attempts["runs"]
    assert mixed.startswith("attempt 1: source ")
    assert "; attempt 2: source " in mixed
    assert whole == "one code"
    with pytest.raises(IncomparableError):
        rebuild(output, is_strict=True)
    records = [
        read_attempt(SweepPaths(output).run(sweep.runs[0].path).attempt(number).record)
        for number in (1, 2)
    ]
    assert records[0].code["source"] != records[1].code["source"]
    assert records[1].earlier_code[0]["attempts"] == [1]
    # Of the command's own Python, which is this one here.
    assert records[1].environment["interpreter"] == sys.executable


def test_a_run_that_was_changed_in_its_plan_is_refused_and_the_others_are_trained(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "model.py").write_text("STEP = 2\n")
    sweep = make_sweep([sys.executable, "train.py"], folds=3, launcher="none")
    changed = [
        replace(sweep.runs[0], config={**sweep.runs[0].config, "steps": 7}),
        replace(sweep.runs[1], command=(sys.executable, "other.py")),
        sweep.runs[2],
    ]
    report = run_here(replace(sweep, runs=tuple(changed)), tmp_path / "out", cwd=tmp_path)
    outcomes = report.endings
    for run in changed[:2]:
        assert outcomes[run.run_id].outcome is RunOutcome.REFUSED
        assert run.run_id in outcomes[run.run_id].reason
        assert not SweepPaths(tmp_path / "out").run(run.path).root.exists()
    assert outcomes[changed[2].run_id].outcome is RunOutcome.DONE
