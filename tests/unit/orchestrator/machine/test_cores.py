"""Cores that a quota allows, by files as cgroup v1, v2 and containers have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.machine import cores
from orchestrator.machine.cores import cpu_quota, num_threads, num_usable_cores


def cgroup(tmp_path: Path, line: str, files: dict[str, str]) -> tuple[Path, Path]:
    """`/proc/self/cgroup` with `line`, and the mounted tree with `files`."""
    proc, root = tmp_path / "cgroup", tmp_path / "root"
    proc.write_text(line + "\n")
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return proc, root


@pytest.mark.parametrize(
    ("line", "files", "quota"),
    [
        ("0::/a/b", {"a/b/cpu.max": "50000 100000"}, 0.5),
        # That of a cgroup above counts too, and the smallest one decides.
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "400000 100000"}, 1.5),
        # In a container the path is that of the host.
        ("0::/docker/abc", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "broken"}, None),
        ("0::/", {}, None),
        (
            "4:cpu,cpuacct:/job",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            "4:cpu,cpuacct:/docker/abc",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("3:memory:/job", {"memory/job/cpu.max": "50000 100000"}, None),
    ],
)
def test_the_quota_is_the_smallest_of_all_cgroups_above(tmp_path, line, files, quota):
    assert cpu_quota(*cgroup(tmp_path, line, files)) == quota


@pytest.mark.parametrize(
    ("quota", "count", "threads"),
    [(0.5, 1, 1), (1.9, 1, 1), (2.0, 2, 2), (4.0, 4, None), (64.0, 4, None), (None, 4, None)],
)
def test_half_a_core_is_one_slot_and_one_thread(monkeypatch, quota, count, threads):
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert (num_usable_cores(), num_threads()) == (count, threads)
