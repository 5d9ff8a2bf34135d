"""Workers on real ssh hosts that share a folder: started, killed, paused, stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.commands import MarkedCommand, command_line, replicate
from support.executors import wait_until
from support.server_sweeps import ServerSweep
from support.ssh_hosts import ssh_hosts, why_not

from merge.storage.json_files import read_json

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(400),
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
    done = sweep.submit("--claim-expiry", "6")
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
    assert {r["details"]["host"] for r in results.values()} <= {"h1", "h4"}
    asides = sweep.output.glob("lr*/seed*/result.aside-*.json")
    (kept,) = [path for path in asides if read_json(path)["details"]["host"] == "h3"]
    told = replicate("status", "out", cwd=sweep.folder).stdout
    assert "study 'grid': 16 done" in told
    assert f"kept aside: {kept.relative_to(sweep.output)}: " in told
    merged = replicate("merge", "out", cwd=sweep.folder)
    assert kept.name in merged.stdout + merged.stderr


def is_on(attempt, host):
    return read_json(attempt / "attempt.json")["owner"]["host"] == host


def test_every_problem_of_every_server_is_told_and_nothing_is_started(sweep, hosts, tmp_path):
    sweep.output.mkdir(parents=True)
    hosts.start("h1")
    hosts.start("h2", hide=sweep.output)
    sweep.prepare()
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.sh").write_text("echo other\n")
    hosts["h1"].folder.joinpath("old").mkdir()
    old = copy_of_papergrid(tmp_path / "old")
    sweep.write_hosts(
        unknown={"ssh": "nowhere"},
        apart={"ssh": "h2"},
        old={"ssh": "h1", "environment": {"PYTHONPATH": str(old)}},
        bare={"ssh": "h1", "python": str(Path(sys.base_prefix) / "bin/python3")},
        pathless={"ssh": "h1", "python": "no-such-python"},
        elsewhere={"ssh": "h1", "workdir": str(other)},
        homeless={"ssh": "h1", "workdir": "/no/such/folder"},
        dataless={"ssh": "h1", "data_root": "/no/such/data"},
        gpuless={"ssh": "h1", "devices": "7"},
        unset={"ssh": "h1", "setup": ["echo set; false"]},
        full={"ssh": "h1", "output": "/no/such/output"},
        good={"ssh": "h1"},
    )
    refused = sweep.submit()
    print(refused.stderr)
    assert refused.returncode == 2
    problems = dict(re.findall(r"^  (\w+): (.*)$", refused.stderr, re.MULTILINE))
    assert problems.keys() == {*sweep.host_names()} - {"good"}, refused.stderr
    for name, told in {
        "unknown": "cannot be reached",
        "apart": "mount the shared folder",
        "old": "another papergrid",
        "bare": "this papergrid cannot be imported there",
        "pathless": "no program no-such-python",
        "elsewhere": "other code: the files of the study's command",
        "homeless": "no folder /no/such/folder to work in",
        "dataless": "no folder /no/such/data",
        "gpuless": "no GPU '7' here",
        "unset": "setup line failed: echo set; false",
        "full": "no output folder /no/such/output",
    }.items():
        assert told in problems[name], (name, problems[name])
    assert list(sweep.output.iterdir()) == []
    assert processes_with(sweep, "h1", "h2") == []


def host_of(run):
    return read_json(run / "claim-0001.json")["owner"]["host"]


def copy_of_papergrid(folder):
    """A papergrid with one more line in its control plane."""
    for package in ("merge", "orchestrator", "replicate", "experiments"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.pyc"))
    with (folder / "orchestrator" / "runs" / "claims.py").open("a") as file:
        file.write("# another version\n")
    return folder


def processes_with(sweep, *names):
    """Processes that a submission left on hosts: all but their ssh servers."""
    found = [pid for name in names for pid in sweep.ssh[name].pids()]
    return [pid for pid in found if "sshd" not in command_line(pid)]


def test_workers_outlive_the_terminal_that_they_were_started_from(sweep, hosts, tmp_path):
    hosts.start("h1", "h2")
    sweep.prepare()
    for name in ("h1", "h2"):
        (sweep.hold / name).touch()
    command = MarkedCommand(sweep.submit_words("--claim-expiry", "6"), cwd=sweep.folder)
    submit = command.start(tmp_path / "submit.log")
    try:
        sweep.wait_for_hold("h1", "h2")
        with suppress(ProcessLookupError):
            os.killpg(submit.pid, signal.SIGHUP)
        submit.wait(120)
        wait_until(lambda: command.processes() == [], "the end of everything on this side")
        for name in ("h1", "h2"):
            (sweep.hold / name).unlink()
        sweep.wait_for_ends("h1", "h2")
    finally:
        for pid in command.processes():
            os.kill(pid, signal.SIGKILL)
    assert len(sweep.results()) == 16
    conditions = {each["server"]: each["condition"] for each in sweep.status()["servers"]}
    assert conditions == {"h1": "finished", "h2": "finished"}


def test_workers_are_asked_stopped_and_killed_over_ssh(sweep, hosts):
    hosts.start("h1", "h2", "h3")
    sweep.prepare()
    names = ("h1", "h2", "h3")
    for name in names:
        (sweep.hold / name).touch()
    assert sweep.submit("--claim-expiry", "15").returncode == 0
    sweep.wait_for_hold(*names)
    print(replicate("status", "out", cwd=sweep.folder).stdout)
    again = sweep.submit()
    print(again.stderr)
    assert again.returncode == 2
    assert again.stderr.count("already runs there for this folder") == 3
    sweep.signal_worker("h2", signal.SIGSTOP)
    hosts["h3"].cut_power()
    said = {each["server"]: each["reached"] for each in sweep.status("--reach")["servers"]}
    assert (said["h1"], said["h2"]) == ("running", "stopped")
    assert "cannot be reached" in said["h3"]
    held = {host_of(run): run.name for run in sweep.output.glob("lr1/seed*")}
    wait_until(lambda: sweep.status()["servers"][1]["condition"] == "silent", "h2's silence", 120)
    done = replicate("cancel", "out", "--run", f"lr1-{held['h2']}", cwd=sweep.folder)
    assert "h2: its worker was silent and was killed" in done.stdout, done.stderr
    wait_until(lambda: processes_with(sweep, "h2") == [], "the end of all that h2 ran")
    assert sweep.worker_pid("h1")
    would = replicate("cancel", "out", "--workers", "--dry-run", cwd=sweep.folder)
    assert "h1: would be asked to stop" in would.stdout, would.stderr
    done = replicate("cancel", "out", "--workers", "h1", cwd=sweep.folder)
    assert (done.stdout, done.returncode) == ("h1: asked to stop\n", 0), done.stderr
    sweep.wait_for_ends("h1")
    wait_until(lambda: processes_with(sweep, "h1") == [], "the end of all that h1 ran")
    said = {each["server"]: each["reached"] for each in sweep.status("--reach")["servers"]}
    assert (said["h1"], said["h2"]) == (None, "gone")
    assert {e["server"]: e["condition"] for e in sweep.status()["servers"]}["h1"] == "stopped"
    wrong = replicate("cancel", "out", "--workers", "h11", cwd=sweep.folder)
    assert wrong.returncode == 2
    assert "did you mean 'h1'" in wrong.stderr


HOSTILE = [
    "two words",
    "$(touch pwned)`touch pwned`",
    """it's "quoted" \\ and ; | & > pwned""",
    "two\nlines",
    "../../outside",
    "-rf *",
]

HOSTILE_STUDY = {
    "name": "hostile",
    "command": ["sh", "say.sh", "{text}", "it's $(touch pwned)\n{text}"],
    "axes": {"text": HOSTILE, "seed": [0]},
    "average_over": "seed",
    "metric": "score",
}

SAY = """\
python3 - "$1" "$2" <<'END'
import json, os, sys
values = [sys.argv[1], sys.argv[2], os.environ["SAID"], os.environ["PAPERGRID_CONFIG_TEXT"]]
values += [os.environ.get("PYTHONPATH", ""), os.environ.get("PYTHONSAFEPATH", "")]
path = os.environ["PAPERGRID_ATTEMPT_DIR"] + "/result.json"
with open(path, "w") as file:
    json.dump({"metrics": {"score": 1}, "details": {"values": values}}, file)
END
"""


def test_servers_run_the_frozen_code_though_the_checkout_is_edited(sweep, hosts):
    hosts.start("h1", "h2")
    sweep.prepare()
    subprocess.run(["git", "init", "-q", sweep.folder], check=True)
    (sweep.folder / ".gitignore").write_text("out/\nhold/\n")
    for name in ("h1", "h2"):
        (sweep.hold / name).touch()
    done = sweep.submit("--snapshot", "--claim-expiry", "6")
    assert done.returncode == 0, done.stderr
    sweep.wait_for_hold("h1", "h2")
    (sweep.folder / "train.sh").write_text("exit 1\n")
    for name in ("h1", "h2"):
        (sweep.hold / name).unlink()
    sweep.wait_for_results(16)
    (digest,) = {result["code"]["snapshot"] for result in sweep.results().values()}
    assert f"snapshot {digest}: papergrid and the checkout of the command" in done.stderr
    sweep.wait_for_ends("h1", "h2")


def test_values_reach_a_remote_command_as_they_are_and_no_shell(tmp_path, hosts):
    hosts.start("h1")
    folder = tmp_path / "it's a $(touch pwned) `study`\nfolder; touch pwned"
    sweep = ServerSweep(folder, hosts).prepare(json.dumps(HOSTILE_STUDY))
    (folder / "say.sh").write_text(SAY)
    said = "a 'b' \"c\" $(touch pwned) `d`\n$HOME \\"
    sweep.write_hosts(h1={"environment": {"SAID": said}, "setup": ["cd .", "true"]})
    done = sweep.submit()
    assert done.returncode == 0, done.stderr
    sweep.wait_for_ends("h1")
    results = [read_json(path) for path in sweep.output.glob("*/*/result.json")]
    assert sorted(r["details"]["values"] for r in results) == sorted(
        [text, f"it's $(touch pwned)\n{text}", said, text, "", ""] for text in HOSTILE
    ), sweep.logs()
    assert list(tmp_path.rglob("pwned")) == []
    assert not [path for path in tmp_path.iterdir() if path not in (folder, hosts.root)]


def test_printed_commands_start_the_workers_each_with_its_shards_through_a_jump_host(
    sweep, hosts, tmp_path
):
    hosts.start("h1", "h2")
    sweep.prepare(h1={}, far={})
    jump = f"Host far\n  HostName 127.0.0.1\n  Port {hosts['h2'].port}\n  ProxyJump h1\n"
    # What people have in their own files: a shared connection, and habits for logging in.
    habits = f"ControlMaster auto\nControlPath {tmp_path}/%n\nControlPersist 2\nRequestTTY yes\n"
    config = f"{jump}  HostKeyAlias h2\n{hosts.ssh_config.read_text()}  RemoteCommand tmux\n"
    hosts.ssh_config.write_text(habits + config)
    dry = sweep.submit("--shard-by", "lr", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert not sweep.output.exists()
    printed = sweep.submit("--shard-by", "lr", "--print-commands")
    print(printed.stdout)
    assert printed.returncode == 0, printed.stderr
    assert without_name(dry.stdout) == without_name(printed.stdout)
    assert sweep.results() == {}
    by_hand = subprocess.run(
        ["bash"], input=printed.stdout, capture_output=True, text=True, timeout=60, check=False
    )
    assert by_hand.stdout.count("papergrid: started ") == 2, by_hand.stderr
    sweep.wait_for_ends("h1", "far")
    assert len(sweep.results()) == 16
    pairs = {(path[:3], r["details"]["host"]) for path, r in sweep.results().items()}
    assert len(pairs) == 4
    assert {host for _, host in pairs} == {"h1", "h2"}


def without_name(text):
    return re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "NAME", text)
