"""Hosts files: what a person may write, and every refusal with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from merge.errors import StudyError, UsageError
from orchestrator.servers.hosts_file import Fleet, ServerShape, read_hosts

DOCUMENT = Path(__file__).parents[4] / "docs" / "servers.md"


def hosts(tmp_path, text) -> Fleet:
    path = tmp_path / "hosts.yaml"
    path.write_text(text)
    return read_hosts(path)


def problems(tmp_path, text) -> list[str]:
    with pytest.raises(StudyError) as refused:
        hosts(tmp_path, text)
    return list(refused.value.problems)


@pytest.mark.parametrize("text", ["hosts: [gpu1, me@gpu2]", "hosts: {gpu1: , me@gpu2: }"])
def test_a_list_of_names_is_enough_where_names_are_file_names(tmp_path, text):
    (problem,) = problems(tmp_path, text)
    assert "'me@gpu2' cannot be a file name of a log" in problem
    fleet = hosts(tmp_path, text.replace("me@gpu2", "gpu2"))
    assert [(server.name, server.ssh) for server in fleet.servers] == [
        ("gpu1", "gpu1"),
        ("gpu2", "gpu2"),
    ]


def test_a_host_overrides_the_defaults_and_adds_to_environment_and_setup(tmp_path):
    text = """\
defaults:
  python: /opt/venv/bin/python
  devices: [0, 1]
  environment: {A: 1, B: two}
  setup: [module load cuda]
hosts:
  plain:
  own:
    ssh: me@10.0.0.2
    devices: 3
    environment: {B: 2.5, C: true}
    setup: ["source it.sh"]
ssh_config: config
"""
    (tmp_path / "config").touch()
    fleet = hosts(tmp_path, text)
    plain, own = fleet.servers
    assert fleet.ssh_config == tmp_path / "config"
    assert (plain.python, plain.devices) == ("/opt/venv/bin/python", "0,1")
    assert plain.environment == {"A": "1", "B": "two"}
    assert (own.ssh, own.python, own.devices) == ("me@10.0.0.2", "/opt/venv/bin/python", "3")
    assert own.environment == {"A": "1", "B": "2.5", "C": "true"}
    assert own.setup == ("module load cuda", "source it.sh")
    assert "two" not in repr(fleet), "what a variable holds may be a secret"


def test_every_problem_is_told_with_its_place(tmp_path):
    text = """\
defaults: {ssh: gpu0, workdri: /x}
hosts:
  -gpu: {}
  gpu1:
    ssh: "-oProxyCommand=evil"
    output: out
    environment: {A B: 1, C: [1]}
    devices: true
    setup: module load cuda
  gpu2: 3
connect_timeout_s: 0
ssh_config: absent
"""
    told = problems(tmp_path, text)
    expected = [
        "hosts.yaml:1:17 defaults.ssh: each host has its own",
        "hosts.yaml:1:23 defaults.workdri: unknown key: did you mean 'workdir'?",
        "'-gpu' cannot be a file name of a log",
        "'-oProxyCommand=evil' is not a host",
        "'out' is relative: write the path from /",
        "is not a valid name of a variable",
        "must be a single value",
        "hosts.gpu1.devices: must be text",
        "hosts.gpu1.setup: must be a list",
        "hosts.gpu2: must be a mapping",
        "connect_timeout_s: must be at least 1, not",
        f"there is no file {tmp_path / 'absent'}",
    ]
    assert len(told) == len(expected), told
    for words in expected:
        assert any(words in problem for problem in told), (words, told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("defaults: {}", "missing: list the servers"),
        ("hosts: []", "missing: list the servers"),
        ("hosts: [a, a]", "a host appears twice"),
        ("hosts: {a: {}, a: {}}", "this key appears twice"),
        ("- a", "has no `key: value` lines"),
    ],
)
def test_a_file_without_servers_or_with_one_twice_is_refused(tmp_path, text, told):
    assert any(told in problem for problem in problems(tmp_path, text))


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_hosts(tmp_path / "absent.yaml")


def test_the_page_shows_every_key_and_its_example_is_valid(tmp_path):
    page = DOCUMENT.read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "cluster_ssh_config").touch()
    fleet = hosts(tmp_path, example)
    assert len(fleet.servers) == 2
    for key in ServerShape.model_fields:
        assert f"`{key}`" in page
