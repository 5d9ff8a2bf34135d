"""What several tests of the control plane need."""

from __future__ import annotations

import os

import pytest
from support import fake_slurm


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """State of fake SLURM commands, which are on PATH."""
    folder = tmp_path / "slurm"
    monkeypatch.setenv("PATH", f"{fake_slurm.install(folder)}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder
