"""`run --print-commands`: what it prints really starts the run, whatever holds the usual port."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.ranks import ROOT

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

STUDY = """
name: blobs
experiment: {folder}
axes: {{noise: [0.1], seed: [0, 1]}}
average_over: seed
metric: offset
fixed: {{epochs: 1, eval_every: 1}}
resources: {{devices_per_run: 2, device: cpu}}
"""


def replicate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "replicate", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
    )


def clean_environment() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith("PAPERGRID_")}


def blocks(text: str) -> dict[str, str]:
    """Title -> text of each printed block."""
    parts = [part.partition("\n") for part in text.split("# --- ")[1:]]
    return {title: body for title, _, body in parts}


def test_the_torchrun_line_and_the_python_call_train_the_run_that_they_were_printed_for(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.format(folder=ROOT / "examples" / "blobs"))
    words = ("run", "--study", "study.yaml", "--where", "seed=0", "--set", "lr=0.05")
    printed = replicate(tmp_path, *words, "--print-commands")
    assert printed.returncode == 0, printed.stderr
    by_title = blocks(printed.stdout)
    python, torchrun, sbatch = by_title.values()
    assert all("seed=0" in title or "0" in title for title in by_title)
    assert "--standalone --nproc-per-node=2" in torchrun
    assert not list(tmp_path.rglob("attempts/*"))
    run = next((tmp_path / "outputs" / "study").rglob("run.json")).parent

    # Rank 0's usual port is taken: torchrun finds another one by itself.
    with closing(socket.socket()) as holder:
        with suppress(OSError):
            holder.bind(("0.0.0.0", 29500))
            holder.listen()
        pasted = subprocess.run(
            torchrun.strip(),
            shell=True,
            cwd="/",
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert pasted.returncode == 0, pasted.stderr
    by_hand = json.loads((run / "attempts" / "by-hand" / "result.json").read_text())
    assert not (run / "result.json").exists()

    # The call goes on from the checkpoint and commits the result.
    (tmp_path / "call.py").write_text(python)
    called = subprocess.run(
        [sys.executable, "call.py"],
        cwd=tmp_path,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert called.returncode == 0, called.stderr
    committed = json.loads((run / "result.json").read_text())
    assert committed["metrics"] == by_hand["metrics"]
    assert committed["details"]["config"]["lr"] == 0.05
    assert committed["details"]["world_size"] == 2

    script = tmp_path / "run.sbatch"
    script.write_text(sbatch)
    assert sbatch.startswith("#!/bin/bash")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "--where seed=0 --set lr=0.05" in sbatch
    assert f"#SBATCH --output={run}/run-%j.log" in sbatch
