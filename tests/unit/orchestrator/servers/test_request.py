"""Which runs each server gets, and the commands that start its worker."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sweeps import make_sweep

from merge.errors import UsageError
from orchestrator.config.shell import quote
from orchestrator.plan.shards import Shard
from orchestrator.s3.url import BucketTarget, parse_url
from orchestrator.servers.hosts_file import Fleet, Server
from orchestrator.servers.request import ServerAssignment, ServerRequest, assign_runs
from orchestrator.servers.scripts import command_text, start_script, worker_words

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)


def servers(number: int) -> list[Server]:
    return [Server(name=f"h{index}", ssh=f"h{index}") for index in range(number)]


@given(st.lists(TEXT, max_size=5))
def test_quoted_words_are_read_back_as_they_were(words):
    assert shlex.split(quote(words)) == words


def test_a_shell_reads_quoted_words_back_as_they_were():
    words = ["a b", "it's", '"', "$(touch x)", "`x`", "new\nline", "-n", "", "\\", "*", "ä", "!!"]
    script = f"printf '%s\\0' {quote(words)}"
    for shell in ("sh", "bash"):
        done = subprocess.run([shell, "-c", script], capture_output=True, check=True)
        assert done.stdout.decode().split("\0")[:-1] == words


def test_a_nul_byte_reaches_no_shell():
    with pytest.raises(UsageError, match="NUL"):
        quote(["a\0b"])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 5))
def test_each_shard_goes_to_one_server_and_none_is_laden_with_more_than_another_and_a_shard(
    sizes, number
):
    runs = iter(make_sweep(["true"], folds=sum(sizes)).runs)
    shards = [
        Shard(name=f"s{index}", runs=tuple(next(runs) for _ in range(size)))
        for index, size in enumerate(sizes)
    ]
    assignments = assign_runs(servers(number), shards, by_shard=True)
    given_names = [name for each in assignments for name in each.shards]
    assert sorted(given_names) == sorted(shard.name for shard in shards)
    loads = [len(each.runs) for each in assignments]
    assert sum(loads) == sum(sizes)
    assert len(assignments) == min(number, len(shards))
    assert max(loads) - min(loads) <= max(sizes)


def test_without_shards_every_server_gets_all_runs():
    runs = make_sweep(["true"], folds=5).runs
    assignments = assign_runs(servers(3), [Shard(name="all", runs=runs)], by_shard=False)
    assert [each.runs for each in assignments] == [runs] * 3


def request(server: Server, tmp_path, **fields) -> tuple[ServerRequest, ServerAssignment]:
    assignment = ServerAssignment(server=server, runs=make_sweep(["true"]).runs, shards=())
    asked = ServerRequest(
        name="sub",
        output=tmp_path / "out",
        workdir=tmp_path,
        fleet=Fleet(servers=(server,)),
        assignments=(assignment,),
        **fields,
    )
    return asked, assignment


def test_paths_are_those_of_the_server(tmp_path):
    server = Server(name="h", ssh="h", output="/far/out", python="/far/bin/python", devices="0,1")
    words = worker_words(*request(server, tmp_path))
    assert words[:6] == ["/far/bin/python", "-P", "-u", "-m", "replicate", "work"]
    assert words[words.index("--runs") + 1] == "/far/out/submissions/sub/runs/h.txt"
    assert words[words.index("--devices") + 1] == "0,1"


def test_a_frozen_copy_is_run_where_the_server_sees_it(tmp_path):
    server = Server(name="h", ssh="h", output="/far/out")
    words = worker_words(*request(server, tmp_path, snapshot="0123456789abcdef"))
    assert "/far/out/code/0123456789abcdef/papergrid" in words
    assert words[words.index("--snapshot") + 1] == "0123456789abcdef"


def test_the_record_of_a_submission_holds_no_value_of_a_variable(tmp_path):
    server = Server(name="h", ssh="h", environment={"TOKEN": "secret-value"})
    asked, assignment = request(server, tmp_path)
    assert "secret-value" not in str(asked.to_json())
    assert "secret-value" not in " ".join(asked.ssh_target(server).command())
    assert "secret-value" in start_script(asked, assignment)


@settings(max_examples=20)
@given(st.lists(TEXT, min_size=1, max_size=3))
def test_a_start_script_of_any_values_is_one_that_bash_can_read(tmp_path_factory, values):
    server = Server(
        name="h",
        ssh="h",
        workdir="/" + values[0],
        output="/" + values[-1],
        environment={"A": values[0]},
    )
    for claims in (None, BucketTarget(url=parse_url("s3://papers/abcb"))):
        text = command_text(*request(server, tmp_path_factory.getbasetemp(), claims=claims))
        done = subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
