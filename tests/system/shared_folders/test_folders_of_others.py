"""A run's folder that this user may not enter is named, and stops no other run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.sweeps import LEAVE_RESULT

from merge.records.records import Claim, Owner
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths

pytestmark = pytest.mark.system

STUDY = """\
name: plain
command: [sh, train.sh, "{fold}"]
axes: {fold: [0, 1, 2]}
average_over: fold
metric: score
"""

RUN = ("run", "--study", "study.yaml", "--output-dir", "out", "--devices", "cpu:1")


@pytest.fixture
def kept_from_us(tmp_path: Path):
    """A sweep one of whose two finished runs lies in a folder without any permission."""
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "train.sh").write_text(LEAVE_RESULT)
    assert ours(tmp_path, *RUN, "--folds", "0", "1").returncode == 0
    folder = tmp_path / "out" / "fold=0"
    folder.chmod(0)
    yield tmp_path
    folder.chmod(0o755)


def ours(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`replicate words` by a user to whom permissions apply, as they do not to root."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("permissions do not bind root, and there is no setpriv")
        rights = "-dac_override,-dac_read_search"
        prefix = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    return subprocess.run(
        [*prefix, sys.executable, "-m", "replicate.cli.main", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_other_runs_are_trained_and_merged(kept_from_us):
    done = ours(kept_from_us, *RUN)
    assert done.returncode == 1
    assert "fold=0 cannot be listed (Permission denied)" in done.stdout + done.stderr
    assert "done     fold=2" in done.stderr
    assert "report.md" in done.stdout
    merged = json.loads((kept_from_us / "out" / "replication_results.json").read_text())
    assert merged["results"]["all"]["folds"] == ["1", "2"]


def test_its_state_is_unknown_and_it_can_be_reported(kept_from_us):
    status = ours(kept_from_us, "status", "out", "--json")
    assert json.loads(status.stdout)["counts"] == {"unknown": 1, "done": 1, "pending": 1}
    for verb in ("merge", "report"):
        told = ours(kept_from_us, verb, "out")
        assert "Traceback" not in told.stderr
        assert told.returncode in (0, 1, 3)


def test_what_else_there_is_to_cancel_is_cancelled(kept_from_us):
    told = ours(kept_from_us, "cancel", "out")
    assert told.returncode == 1
    assert "fold=0 cannot be listed (Permission denied)" in told.stdout
    assert (kept_from_us / "out" / "fold=2" / "request-0001.json").exists()


def test_to_look_takes_no_right_to_write(kept_from_us):
    """The file system's clock cannot be asked then: this host's stands for it."""
    output = kept_from_us / "out"
    owner = Owner(host="far", pid=1, pid_started="1", boot_id="far")
    claim = Claim(number=1, token="t", owner=owner, heartbeat=time.time())
    write_json(RunPaths(output / "fold=2").claim(1), claim.to_json())
    output.chmod(0o555)
    status = ours(kept_from_us, "status", "out", "--json")
    output.chmod(0o755)
    assert json.loads(status.stdout)["counts"] == {"unknown": 1, "done": 1, "claimed": 1}
