"""Workers on real ssh hosts that share no folder, but a bucket of a real S3 server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bucket_trees import objects
from support.commands import command_line, replicate
from support.executors import wait_until
from support.fault_proxy import FaultProxy
from support.s3_server import BUCKET, SECRET, S3Server, environment, ministack, rclone
from support.server_sweeps import STUDY, ServerSweep
from support.ssh_hosts import SshHosts, ssh_hosts, why_not

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are ssh servers"),
]

PLACE = f"s3://{BUCKET}/grid"
PATIENCE_S = 150.0


@pytest.fixture
def server(tmp_path) -> Iterator[S3Server]:
    with ministack(tmp_path / "ministack") as running:
        yield running


@pytest.fixture
def hosts(tmp_path):
    with ssh_hosts(tmp_path / "ssh") as hosts:
        yield hosts


@pytest.fixture
def sweep(tmp_path, hosts, monkeypatch):
    """A sweep whose output folder is another one on each host; credentials come by `setup`."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    sweep = ServerSweep(tmp_path / "study", hosts)
    sweep.output.mkdir(parents=True)
    return sweep


def credentials(folder: Path) -> str:
    """A line of `setup` that gives a host the credentials in a file of its own."""
    path = folder / "aws.sh"
    path.write_text("".join(f"export {k}='{v}'\n" for k, v in environment(folder).items()))
    return f". {path}"


def test_hosts_without_a_shared_folder_finish_a_grid_through_a_bucket_though_one_is_killed(
    sweep, hosts, server, tmp_path
):
    hosts.start("h1", "h2", "h3", "h4", hide=sweep.output)
    keys = credentials(tmp_path)
    study = STUDY.replace("lr: [1, 2, 3, 4]", "lr: [1, 2]")
    sweep.prepare(study, **{name: {"setup": [keys]} for name in hosts.hosts})
    for name in hosts.hosts:
        (sweep.hold / name).touch()
    claims = ("--claims", PLACE, *server.flags)
    done = sweep.submit(*claims, "--claim-expiry", "6", "--grace", "1")
    assert done.returncode == 0, done.stderr
    assert f"replicate status out --claims {PLACE}" in done.stdout
    assert f"h1:{sweep.output}/submissions/" in done.stdout
    sweep.wait_for_hold(*hosts.hosts)
    for name in ("h1", "h4"):
        (sweep.hold / name).unlink()
    client = server.client()
    wait_until(lambda: len(results(client)) >= 2, "results in the bucket", PATIENCE_S)
    told = sweep.status(*claims, "--reach")
    going_on = {run["host"] for run in told["runs"] if run["state"] in ("claimed", "running")}
    assert {"h2", "h3"} <= going_on
    assert told["counts"]["done"] >= 2
    assert [each["reached"] for each in told["servers"]] == ["running"] * 4
    assert all(0 <= each["heartbeat_age_s"] < 60 for each in told["servers"])
    commands = [command_line(pid) for host in hosts.hosts.values() for pid in host.pids()]
    assert any(f"--claims {PLACE}" in words for words in commands)
    assert not any(SECRET in words for words in commands)
    hosts["h2"].cut_power()
    stopped = replicate("cancel", "out", "--workers", "h2", "h3", cwd=sweep.folder)
    assert "h2: cannot be reached" in stopped.stdout, stopped.stderr
    assert "h3: asked to stop" in stopped.stdout
    assert stopped.returncode == 1
    wait_until(lambda: len(results(client)) == 8, f"all results: {logs(hosts)}", PATIENCE_S)
    ends = {"h1": "finished", "h2": "not asked", "h3": "stopped", "h4": "finished"}
    wait_until(lambda: conditions(sweep) == ends, f"the ends: {logs(hosts)}", PATIENCE_S)
    there = objects(client, "grid")
    assert not [name for name in there if "aside" in name]
    assert {json.loads(there[name])["details"]["host"] for name in results(client)} <= {"h1", "h4"}
    merged = json.loads(there["replication_results.json"])
    assert [(c["n"], c["complete"]) for c in merged["results"].values()] == [(4, True)] * 2
    assert sweep.results() == {}
    assert sweep.status(*claims)["counts"] == {"done": 8}
    pulled = replicate("sync", "pull", "out", PLACE, *server.flags, cwd=sweep.folder)
    assert pulled.returncode == 0, pulled.stderr
    assert replicate("merge", "out", cwd=sweep.folder).returncode == 0
    assert {path: r["metrics"]["score"] for path, r in sweep.results().items()} == {
        f"lr{lr}/seed{seed}": 10 * lr + seed for lr in (1, 2) for seed in range(4)
    }
    assert SECRET not in done.stdout + done.stderr
    assert not [path for path in written(sweep) if SECRET.encode() in path.read_bytes()]


def test_what_a_host_lacks_to_share_the_bucket_is_told_and_nothing_is_started(
    sweep, hosts, server, tmp_path, monkeypatch
):
    hosts.start("h1", hide=sweep.output)
    keys = credentials(tmp_path)
    with (
        FaultProxy(server.endpoint, seed=1, share=0.0).serving() as denied,
        ministack(tmp_path / "other") as other,
        rclone(tmp_path / "unlike") as unlike,
    ):
        denied.answer = (403, "AccessDenied")

        def host(endpoint: str) -> dict[str, object]:
            return {"ssh": "h1", "setup": [keys, f"export AWS_ENDPOINT_URL_S3={endpoint}"]}

        sweep.prepare(
            keyless={"ssh": "h1", "environment": {"AWS_EC2_METADATA_DISABLED": "true"}},
            denied=host(denied.endpoint),
            elsewhere=host(other.endpoint),
            unlike=host(unlike.endpoint),
            away=host("http://127.0.0.1:1"),
            good=host(server.endpoint),
        )
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
        refused = sweep.submit("--claims", PLACE)
    print(refused.stderr)
    assert refused.returncode == 2
    problems = dict(re.findall(r"^  (\w+): (.*)$", refused.stderr, re.MULTILINE))
    assert problems.keys() == {*sweep.host_names()} - {"good"}
    for name, told in {
        "keyless": "no complete credentials",
        "denied": "s3:ListBucket on arn:aws:s3:::papers",
        "elsewhere": f"{PLACE} is another store on this server",
        "unlike": "ignores conditional writes, so no run can be claimed there",
        "away": "no complete answer from http://127.0.0.1:1",
    }.items():
        assert told in problems[name], (name, problems[name])
        assert "bucket: " in problems[name]
    assert objects(server.client(), "grid") == {}
    assert list(hosts.root.glob("*/own/*")) == list(sweep.output.iterdir()) == []


def test_a_worker_that_was_started_by_hand_is_asked_and_killed_on_its_own_host(
    sweep, hosts, server, tmp_path
):
    hosts.start("h1", hide=sweep.output)
    sweep.prepare(h1={"setup": [credentials(tmp_path)]})
    (sweep.hold / "h1").touch()
    claims = ("--claims", PLACE, *server.flags)
    frozen = sweep.submit(*claims, "--snapshot")
    assert (frozen.returncode, "--snapshot copies" in frozen.stderr) == (2, True)
    dry = sweep.submit("--claims", PLACE, "--endpoint-url", "http://127.0.0.1:1", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert list(sweep.output.iterdir()) == []
    printed = sweep.submit(*claims, "--print-commands")
    assert printed.returncode == 0, printed.stderr
    assert list(objects(server.client(), "grid")) == ["sweep.json"]
    assert SECRET not in printed.stdout
    stale = hosts.root / "h1/own/sweep.json"
    stale.write_text((sweep.output / "sweep.json").read_text().replace('"grid"', '"older"'))
    assert "papergrid: problem it ended at once" in by_hand(printed.stdout)
    assert "study: grid -> older" in logs(hosts)
    stale.unlink()
    assert "papergrid: started " in by_hand(printed.stdout)
    sweep.wait_for_hold("h1")
    told = replicate("status", "out", cwd=sweep.folder).stdout
    assert "not asked" in told
    assert f"replicate status out --claims {PLACE}" in told
    again = sweep.submit(*claims)
    assert again.returncode == 2
    assert "already runs there for this folder" in again.stderr
    unheard = replicate("cancel", "out", cwd=sweep.folder)
    assert unheard.returncode == 2
    assert "replicate cancel out --workers" in unheard.stderr
    would = replicate("cancel", "out", "--workers", "--dry-run", cwd=sweep.folder)
    assert would.stdout == "h1: would be asked to stop\n", would.stderr
    killed = replicate("cancel", "out", "--workers", "--kill", cwd=sweep.folder)
    assert killed.stdout == "h1: killed\n", killed.stderr
    left = [pid for pid in hosts["h1"].pids() if "sshd" not in command_line(pid)]
    wait_until(lambda: all(not command_line(pid) for pid in left), "the end of all of it")
    (server_told,) = sweep.status("--reach")["servers"]
    assert server_told["reached"] == "gone"


def by_hand(commands: str) -> str:
    done = subprocess.run(
        ["bash"], input=commands, capture_output=True, text=True, timeout=90, check=False
    )
    return done.stdout + done.stderr


def conditions(sweep: ServerSweep) -> dict[str, str]:
    servers = sweep.status("--reach")["servers"]
    return {each["server"]: each["condition"] for each in servers}


def results(client: Any) -> list[str]:
    """The results in the bucket, by name; without reading them."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="grid/")
    names = [e["Key"].removeprefix("grid/") for page in pages for e in page.get("Contents", [])]
    return [name for name in names if Path(name).match("lr*/seed*/result.json")]


def written(sweep: ServerSweep) -> list[Path]:
    """All files that commands left here and on hosts."""
    folders = (sweep.folder, *sweep.ssh.root.glob("*/own"))
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def logs(hosts: SshHosts) -> str:
    found = hosts.root.glob("*/own/submissions/*/logs/*.log")
    return "\n".join(f"{path}: {path.read_text()[-2000:]}" for path in found)
