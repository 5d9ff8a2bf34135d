"""The histogram's Triton kernels without a GPU: in the interpreter, and built for a real GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[3]

INTERPRETED = """
import torch
from experiments.fewshot.models.abcb import histogram_kernel
from experiments.fewshot.models.abcb.histogram import (
    _tiled_gradient, _tiled_sums, front_histogram, unit_vectors,
)

def close(ours, oracle, tolerance, what):
    error = (ours.double() - oracle).abs().max() / oracle.abs().max()
    assert error <= tolerance, (what, float(error))

torch.manual_seed(0)
counts = torch.tensor([200, 0, 1, 129, 57], dtype=torch.int32)
is_real = torch.arange(200) < counts[:, None]
for channels, dtype, tolerance in (
    (3, torch.float32, 1e-5), (80, torch.float32, 1e-5), (320, torch.float16, 2e-3),
):
    values = torch.randn(5, 200, channels) + 0.3
    unit = unit_vectors(values).to(dtype)
    # What lies beyond a set must not be read.
    unit[~is_real] = float("nan")
    exact = unit.double().masked_fill(~is_real[:, :, None], 0)
    sums = histogram_kernel.sums_above(unit, counts, 16)
    assert sums.is_contiguous(), sums.stride()
    close(sums, _tiled_sums(exact, 16), tolerance, (channels, dtype, "sums"))
    slopes = torch.randn(5, 15, dtype=torch.float64) * 1e-7
    gradient = histogram_kernel.gradient(unit, counts, slopes)
    close(gradient, _tiled_gradient(exact, slopes), tolerance, (channels, dtype, "gradient"))
    assert not gradient[~is_real].any()

leaf = torch.randn(5, 200, 16, dtype=torch.float64).requires_grad_()
ours = front_histogram(unit_vectors(leaf), counts, 8)
torch.testing.assert_close(ours.sum(1), (counts > 0).double(), rtol=1e-6, atol=0)
weights = torch.randn_like(ours)
(mine,) = torch.autograd.grad((ours * weights).sum(), leaf)
import os
del os.environ["TRITON_INTERPRET"]
oracle = front_histogram(unit_vectors(leaf), counts, 8)
(theirs,) = torch.autograd.grad((oracle * weights).sum(), leaf)
close(ours, oracle, 1e-6, "histogram")
close(mine, theirs, 1e-4, "gradient of the histogram")
print("equal")
"""

BUILT = """
import subprocess
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from experiments.fewshot.models.abcb import histogram_kernel as ours

LIMIT = {90: 227 * 1024}  # bytes of shared memory of a block: H100

def build(kernel, pointers, constants, capability):
    names = kernel.arg_names
    signature = {name: pointers.get(name, "i32") for name in names}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    options = dict(num_warps=8, num_stages=2, enable_fp_fusion=True)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

for capability in LIMIT:
    step = ours._channel_step(512)
    common = {"NUM_BINS": 16, "STEP": step, "PRECISION": "ieee"}
    given = {"unit": "*bf16", "counts": "*i32"}
    sums = build(
        ours._sums_kernel,
        given | {"parts": "*fp32"},
        common | {"WIDTH": 16, "ROWS": ours.FORWARD_ROWS},
        capability,
    )
    gradient = build(
        ours._gradient_kernel,
        given | {"slopes": "*fp32", "scales": "*fp32", "grad": "*fp32"},
        common | {"ROWS": ours.BACKWARD_ROWS, "PART": ours.GRADIENT_CHANNELS},
        capability,
    )
    for built in (sums, gradient):
        assert built.metadata.shared <= LIMIT[capability], built.metadata.shared
        assert "mma" in built.asm["ptx"], "no tensor cores"
print("built")
"""


def _run(script: str, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_the_kernels_equal_the_loop_over_tiles_forward_and_backward(tmp_path: Path) -> None:
    script = tmp_path / "interpreted.py"
    script.write_text(INTERPRETED)
    run = f"import runpy; runpy.run_path({str(script)!r})"
    assert _run(run, TRITON_INTERPRET="1") == "equal"


def test_the_kernels_build_for_an_h100_with_tensor_cores(tmp_path: Path) -> None:
    assert _run(BUILT, TRITON_CACHE_DIR=str(tmp_path)) == "built"
