"""What only a GPU can show: fast paths beside their references, and the deterministic option."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]
BENCHMARK = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]

TWICE = """
import sys
sys.path.insert(0, "benchmarks")
import torch
from gpu_models import Scale, Stepper, new_model
from experiments.runtime.distributed import use_reproducible_math

use_reproducible_math(torch.device("cuda"), is_deterministic=True)
states = []
for _ in range(2):
    model = new_model(Scale("cuda", is_small=True))
    stepper = Stepper(Scale("cuda", is_small=True), model, 2, 97)
    for _ in range(4):
        stepper()
    states.append([parameter.detach().clone() for parameter in model.parameters()])
assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
print("the same bits")
"""


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_the_benchmark_runs_small_on_a_cpu_and_says_what_it_could_not_measure() -> None:
    done = _run(*BENCHMARK, "--device", "cpu", "--small", "--parts", "rate", "equal", "nonsense")
    assert done.returncode == 0, done.stderr
    assert "pass: error of the histogram kernel: " in done.stdout
    assert "problem: nonsense: KeyError" in done.stdout
    assert "MISS: evaluation, an episode: not measured, at most 10" in done.stdout


if torch.cuda.is_available():  # no skip: a machine without a GPU has nothing to run here

    def test_on_a_gpu_every_fast_path_equals_its_reference_within_bf16() -> None:
        done = _run(*BENCHMARK, "--parts", "equal")
        lines = [line for line in done.stdout.splitlines() if ": error of " in line]
        assert len(lines) == 5, done.stdout + done.stderr
        assert all(line.startswith("pass: ") for line in lines), done.stdout

    def test_the_deterministic_option_gives_the_same_bits_on_a_gpu() -> None:
        done = _run(sys.executable, "-c", TWICE)
        assert done.stdout.strip() == "the same bits", done.stderr

else:

    def test_without_a_gpu_the_benchmark_says_so_and_ends_well() -> None:
        done = _run(*BENCHMARK)
        assert (done.returncode, done.stdout) == (
            0,
            "no GPU here (torch sees none): nothing was measured\n",
        )
