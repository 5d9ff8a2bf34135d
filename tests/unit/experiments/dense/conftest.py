"""The generated data sets, made once for all tests of the dense tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.datasets.shape_images import ensure_shapes5
from experiments.datasets.shape_layouts import ensure_shapes3


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("cache")
    ensure_shapes3(folder)
    ensure_shapes5(folder)
    return folder
