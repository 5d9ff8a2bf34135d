"""A small sweep of the experiment in tests/system/experiments/tested_again, to be tested again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.commands import replicate
from support.ranks import ROOT

EXPERIMENT = ROOT / "tests" / "system" / "experiments" / "tested_again"
STUDY = """\
name: again
experiment: ./tested_again
axes: {width: [4], seed: [0, 1]}
average_over: seed
metric: error
run_path: "{cell}/seed{seed}"
cell: width{width}
fixed: {eval_chunk: 3}
resources: {device: cpu}
"""
OUTPUT = Path("outputs/study")


def write_experiment(folder: Path) -> Path:
    """The experiment in `folder`, with the options.yaml of the runtime as it is now."""
    there = folder / "tested_again"
    shutil.copytree(EXPERIMENT, there, ignore=shutil.ignore_patterns("__py*"))
    words = ["-m", "experiments.runtime.write_options", f"{there}/"]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    return there


def train(folder: Path, *words: object) -> None:
    """Train both runs of the study into `folder`/outputs/study."""
    write_experiment(folder)
    (folder / "study.yaml").write_text(STUDY)
    ended = replicate("--study", "study.yaml", "--devices", "cpu:2", *words, cwd=folder)
    assert ended.returncode == 0, ended.stderr


def evaluate(folder: Path, *words: object, **more: Any) -> Any:
    """`replicate evaluate`, which must end well."""
    ended = replicate("evaluate", OUTPUT, *words, cwd=folder, **more)
    assert ended.returncode == 0, ended.stderr
    return ended


def result_of(output: Path, seed: int) -> dict[str, Any]:
    """The result of one run in the output folder of trainings or of an evaluation."""
    result: dict[str, Any] = json.loads(
        (output / "width4" / f"seed{seed}" / "result.json").read_text()
    )
    return result
