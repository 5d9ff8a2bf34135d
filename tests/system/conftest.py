"""Services that system tests share; each skips visibly where its programs are not installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import slurm_cluster


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[slurm_cluster.SlurmCluster]:
    """A real SLURM cluster of this session's own."""
    if problem := slurm_cluster.missing():
        pytest.skip(problem)
    cluster = slurm_cluster.SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
