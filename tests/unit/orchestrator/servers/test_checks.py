"""Checks of servers, with a fake ssh on PATH: what an answer must be to count as one."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.sweeps import make_sweep

from merge.errors import ServersAwayError, ServersError
from orchestrator.servers import checks
from orchestrator.servers.checks import check_servers
from orchestrator.servers.hosts_file import Fleet, Server
from orchestrator.servers.probe_protocol import ProbeResult
from orchestrator.servers.request import ServerAssignment, ServerRequest

FIND_MARK = "mark=$(grep -o -m 1 'papergrid-[0-9a-f]*' | head -n 1)"


@pytest.fixture
def request_(tmp_path: Path) -> ServerRequest:
    server = Server(name="h1", ssh="h1")
    assignment = ServerAssignment(server=server, runs=make_sweep(["true"]).runs, shards=())
    (tmp_path / "out").mkdir()
    return ServerRequest(
        name="sub",
        output=tmp_path / "out",
        workdir=tmp_path,
        fleet=Fleet(servers=(server,)),
        assignments=(assignment,),
    )


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('echo "$mark {\\"problems\\": []}"', "another version of papergrid"),
        ('echo "$mark {torn"', "another version of papergrid"),
        (
            "echo \"TypeError: __init__() got an unexpected keyword argument 'x'\" >&2; exit 1",
            "another version of papergrid",
        ),
        ("echo \"No module named 'orchestrator'\" >&2; exit 1", "cannot be imported there"),
        ('echo "$mark problem no folder /x"; exit 81', "h1: no folder /x"),
        ("echo Welcome to h1; echo '{}'", "it gave no answer"),
        ("echo 'ssh: connect: No route to host' >&2; exit 255", "cannot be reached: ssh: connect"),
        ("echo 'killed' >&2; exit 137", "h1: killed"),
    ],
)
def test_what_is_no_result_of_this_version_is_a_problem_of_that_server(
    request_, tmp_path, monkeypatch, answer, problem
):
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{FIND_MARK}\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(ServersError) as refused:
        check_servers(request_)
    (told,) = refused.value.problems
    assert problem in told
    assert refused.value.exit_code == (75 if "No route" in answer else 2)
    assert list(request_.output.iterdir()) == []


def test_servers_without_a_problem_are_named_and_only_an_absent_one_may_come_back(
    request_, tmp_path, monkeypatch
):
    """h2 answers, h1 cannot be reached."""
    monkeypatch.setattr(checks, "_code_problems", lambda *_: ())
    h1, h2 = (Server(name=name, ssh=name) for name in ("h1", "h2"))
    (given,) = request_.assignments
    both = replace(request_, assignments=(given, replace(given, server=h2)))
    assert h1 == given.server
    answers(tmp_path, monkeypatch, f"[ $1 = h1 ] && {{ {NO_ROUTE}; }}\n{good_answer()}")
    with pytest.raises(ServersAwayError) as refused:
        check_servers(both)
    assert refused.value.exit_code == 75
    assert str(refused.value).endswith("to start on the others alone, add --hosts h2")
    answers(tmp_path, monkeypatch, f"[ $1 = h1 ] && {{ {NO_KEY}; }}\n{good_answer()}")
    with pytest.raises(ServersError) as refused:
        check_servers(both)
    assert refused.value.exit_code == 2


def test_two_names_of_one_machine_are_noted(request_, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_code_problems", lambda *_: ())
    (given,) = request_.assignments
    twin = replace(given, server=Server(name="gpu1.lab", ssh="gpu1.lab"))
    answers(tmp_path, monkeypatch, good_answer())
    first, second = check_servers(replace(request_, assignments=(given, twin)))
    assert [note for note in first.notes if "same machine" in note] == []
    assert "is the same machine as h1 (box): their runs share it" in second.notes


NO_ROUTE = "echo 'ssh: connect: No route to host' >&2; exit 255"
NO_KEY = "echo 'Permission denied (publickey).' >&2; exit 255"


def good_answer() -> str:
    """What a usable server with another clock of its own would print; `nonce`: nothing written."""
    result = ProbeResult(
        **{"problems": [], "host": "box", "boot_id": "b", "now": time.time(), "version": None},
        **{"control": "", "source": "", "packages": {}, "kind": "cpu", "slots": ["cpu0"]},
        **{"notes": [], "nonce": ""},
    )
    return f"{FIND_MARK}\nprintf '%s ' \"$mark\"; echo {shlex.quote(result.to_text())}\n"


def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an `ssh` on PATH that runs `script` with the name of the host as $1."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        "#!/bin/sh\nwhile [ $# -gt 2 ]; do [ $1 = -- ] && { shift; break; }; shift; done\n" + script
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
