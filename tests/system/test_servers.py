"""Workers on real ssh hosts that share a folder: started, killed, paused, stopped."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
from support.commands import MarkedCommand
from support.executors import wait_until
from support.server_sweeps import ServerSweep
from support.ssh_hosts import ssh_hosts, why_not

from merge.files import read_json
from orchestrator.owners import this_owner
from orchestrator.servers import reach_workers, stop_workers

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are ssh servers"),
]


@pytest.fixture
def hosts(tmp_path):
    with ssh_hosts(tmp_path / "ssh") as hosts:
        yield hosts


@pytest.fixture
def sweep(tmp_path, hosts):
    return ServerSweep(tmp_path / "study", hosts)


def test_a_killed_host_and_a_paused_worker_leave_exactly_one_result_a_run(sweep, hosts):
    hosts.start("h1", "h2", "h3", "h4")
    sweep.prepare()
    for name in ("h2", "h3"):
        (sweep.hold / name).touch()
    done = sweep.submit("--claim-expiry", "3")
    assert done.returncode == 0, done.stderr
    sweep.wait_for_hold("h2", "h3")
    sweep.signal_worker("h3", signal.SIGSTOP)
    hosts["h2"].cut_power()
    sweep.wait_for_results(16)
    sweep.wait_for_ends("h1", "h4")
    # The paused host's trainer went on all the time: it ends now, and its worker wakes up.
    (sweep.hold / "h3").unlink()
    (late,) = [path for path in sweep.output.glob("lr*/seed*/attempts/0001") if is_on(path, "h3")]
    wait_until((late / "result.json").exists, "the late result")
    sweep.signal_worker("h3", signal.SIGCONT)
    sweep.wait_for_ends("h3")
    results = sweep.results()
    assert {path: r["metrics"]["score"] for path, r in results.items()} == {
        f"lr{lr}/seed{seed}": 10 * lr + seed for lr in range(1, 5) for seed in range(4)
    }
    assert {r["details"]["host"] for r in results.values()} <= {"h1", "h3", "h4"}
    kept = list(sweep.output.glob("lr*/seed*/result.aside-*.json"))
    assert [read_json(path)["details"]["host"] for path in kept] == ["h3"]
    status = sweep.status()
    assert status["counts"] == {"done": 16}
    (aside,) = status["merged"]["kept_aside"]
    assert aside["file"] == str(kept[0].relative_to(sweep.output))


def is_on(attempt, host):
    return read_json(attempt / "attempt.json")["owner"]["host"] == host
