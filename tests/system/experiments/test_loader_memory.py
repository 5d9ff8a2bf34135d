"""Loader processes on a host whose /dev/shm is small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


SMALL_SHM = """
import time, torch
from torch.multiprocessing.reductions import shared_cache
from support.tiny_training import Items
from experiments.runtime.loader_errors import explained
from experiments.runtime.loaders import LoaderSettings, make_loader, received

def train(num_workers):
    settings = LoaderSettings(num_workers=num_workers, timeout_s=0.0)
    collate = lambda items: (torch.ones(2**20), "a name")
    try:
        pairs = [[0, 1]] * 24
        for _ in received(
            make_loader(Items(2), collate, settings, torch.Generator(), batch_sampler=pairs)
        ):
            time.sleep(0.01)
    except RuntimeError as error:
        return explained(error, num_workers)

print(train(4))
print(train(1))
"""


@pytest.mark.system
@pytest.mark.timeout(90)
def test_a_small_dev_shm_ends_the_training_at_once_and_fewer_loaders_fit():
    mount = "mount -t tmpfs -o size=24m tmpfs /dev/shm"
    start = f"{mount} && exec \"$0\" -W ignore -c '{SMALL_SHM}'"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", start, sys.executable],
        cwd=ROOT / "tests",
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no mount of its own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    with_four, with_one = done.stdout.splitlines()
    assert with_four.startswith("/dev/shm is too small for the batches of 4 loader processes")
    assert "No space left on device" in with_four
    assert with_one == "None"
