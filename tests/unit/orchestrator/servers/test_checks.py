"""Checks of servers, with a fake ssh on PATH: what an answer must be to count as one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.sweeps import make_sweep

from merge.errors import ServersError
from orchestrator.servers.checks import check_servers
from orchestrator.servers.hosts_file import Fleet, Server
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
    assert list(request_.output.iterdir()) == []
