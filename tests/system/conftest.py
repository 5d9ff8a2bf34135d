"""Services that system tests share; each skips visibly where its programs are not installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import slurm_cluster

LONGEST_FIRST = (
    "test_kill_anything",
    "test_nfs",
    "test_array",
    "test_stops",
    "test_demo",
    "test_fewshot_runs",
    "test_sync_storm",
    "test_servers",
    "test_executor_kills",
    "test_sync_command",
    "test_abcb_learns",
    "test_camouflage_runs",
    "test_stages",
    "test_own_experiment",
    "test_dense_runs",
    "test_dense_photographs",
)
"""Files that take minutes: started last, one of them would keep a single worker busy at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


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
