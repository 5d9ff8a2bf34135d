"""Ranks on one machine whose own name no name server knows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.sweeps import make_sweep, write_sweep

from merge.records.records import read_attempt
from merge.records.result import read_result
from merge.storage.paths import SweepPaths

pytestmark = pytest.mark.system

DRIVER = Path(__file__).parents[2] / "support" / "drive_executor.py"
NAMED = ("unshare", "--uts", "sh", "-c", 'hostname gpu-node-17x && exec "$@"', "sh")
PATIENCE_S = 150
"""Less than torch tries to reach a name that is not found."""
TRAINER = """\
import json, os
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
if dist.get_rank() == 0:
    with open(os.environ["PAPERGRID_ATTEMPT_DIR"] + "/result.json", "w") as file:
        json.dump({"metrics": {"score": total.item()}}, file)
dist.destroy_process_group()
"""


def test_ranks_meet_where_the_host_name_does_not_resolve(tmp_path):
    """By name they would wait for minutes; the variables of a launcher outside change nothing."""
    if not shutil.which("unshare") or subprocess.run([*NAMED, "true"], check=False).returncode:
        pytest.skip("host name: a process may not have one of its own here")
    (tmp_path / "trainer.py").write_text(TRAINER)
    command = [sys.executable, str(tmp_path / "trainer.py")]
    sweep = make_sweep(command, devices_per_run=2, launcher="torchrun", device="cpu")
    output = tmp_path / "out"
    write_sweep(output, sweep)
    foreign = {"PET_NNODES": "4", "GLOO_SOCKET_IFNAME": "ib7", "MASTER_ADDR": "head-node"}
    words = [*NAMED, sys.executable, str(DRIVER), str(output), "2"]
    done = subprocess.run(
        words,
        env={**os.environ, **foreign},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    paths = SweepPaths(output).run(sweep.runs[0].path)
    assert done.returncode == 0, paths.attempt(1).stderr.read_text()
    assert read_result(paths.result).metrics == {"score": 2.0}
    assert read_attempt(paths.attempt(1).record).owner.host == "gpu-node-17x"
