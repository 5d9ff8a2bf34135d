"""The generated set, made once for all tests of this folder."""

from __future__ import annotations

import pytest

from experiments.datasets.tiny_cod10k import ensure_tiny_cod10k


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return ensure_tiny_cod10k(tmp_path_factory.mktemp("tiny"))
