"""What a server is asked to look for on behalf of its runs, and what it answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.grids import make_grid
from support.studies import write_experiment

from orchestrator.servers.hosts_file import Fleet, Server
from orchestrator.servers.needs import needs_of
from orchestrator.servers.probe import probe
from orchestrator.servers.probe_protocol import ProbeRequest, request_from_text
from orchestrator.servers.request import ServerAssignment, ServerRequest
from orchestrator.servers.scripts import probe_request

CHECK = """
from experiments.runtime.check import Problem

def problems(configs, places):
    folds = sorted(config["fold"] for config in configs)
    print("chatter")
    text = f"{folds} {places.data_root} {places.weights} {places.cache_dir} {places.is_quick}"
    yield Problem("blobs", text, "get them")
    yield Problem("weights", "none")
"""


def configs(needs):
    return [{**needs.shared, **own} for own in needs.own]


def test_configurations_are_sent_once_each_with_what_they_share_apart():
    sweep = make_grid(cells=("a", "b"), folds=range(3))
    needs = needs_of([*sweep.runs, *sweep.runs])
    assert needs.shared == {"epochs": 1}
    assert needs.num_configs == 6
    assert sorted(map(json.dumps, configs(needs))) == sorted(
        json.dumps({"epochs": 1, **{key: run.config[key] for key in ("cell", "fold")}})
        for run in sweep.runs
    )
    assert needs_of([]) is None


def test_of_too_many_configurations_those_with_new_values_are_sent():
    sweep = make_grid(cells=tuple(f"cell{n}" for n in range(40)), folds=range(40))
    needs = needs_of(sweep.runs, largest=4_000)
    assert len(json.dumps({"shared": needs.shared, "own": needs.own})) < 4_100
    assert len(needs.own) < needs.num_configs == 1600
    for key in ("cell", "fold"):
        assert {c[key] for c in configs(needs)} == {run.config[key] for run in sweep.runs}


def test_a_request_of_a_large_grid_fits_into_one_argument(tmp_path):
    sweep = make_grid(cells=tuple(f"cell{n}" for n in range(100)), folds=range(100))
    server = Server(name="h1", ssh="h1")
    request = ServerRequest(
        name="sub",
        output=tmp_path,
        workdir=tmp_path,
        fleet=Fleet(servers=(server,)),
        assignments=(),
        to_check=frozenset(run.run_id for run in sweep.runs),
    )
    given = ServerAssignment(server=server, runs=sweep.runs, shards=())
    text = probe_request(request, given, "nonce")("mark").to_text()
    assert 50_000 < len(text) < 110_000
    assert request_from_text(text).to_text() == text
    unchecked = probe_request(replace(request, to_check=frozenset()), given, "nonce")("mark")
    assert unchecked.run_needs is None


@pytest.fixture
def request_(tmp_path, monkeypatch) -> ProbeRequest:
    """A request about an experiment with a check, in the folder in which workers start."""
    monkeypatch.chdir(tmp_path)
    folder = write_experiment(tmp_path / "blobs")
    (folder / "options.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass Options: ...\n"
    )
    (folder / "task.py").write_text("def open_task(options, context): ...\n")
    (folder / "check.py").write_text(CHECK)
    output = tmp_path / "out"
    (output / ".probe-x").mkdir(parents=True)
    (output / ".probe-x" / "here").write_text("nonce")
    (tmp_path / "data").mkdir()
    need = {"run_id": "r", "device": "auto", "devices_per_run": 1, "launcher": "none"}
    return ProbeRequest(
        **{"mark": "m", "output": str(output), "probe": ".probe-x", "nonce": "nonce"},
        **{"server": "h1", "command": None, "experiment": "./blobs", "needs": [need]},
        **{"devices": "cpu:1", "allow_busy": False, "data_root": str(tmp_path / "data")},
        **{"cache_dir": str(tmp_path / "cache"), "weights": None, "min_free_gb": 0.0},
        share_timeout_s=0,
        run_needs=needs_of(make_grid(folds=range(3)).runs),
    )


def test_a_server_answers_what_the_experiments_check_finds_there(request_, tmp_path):
    result = probe(request_)
    found = f"[0, 1, 2] {tmp_path / 'data'} None {tmp_path / 'cache'} True"
    assert result.problems == [f"blobs: {found}; get them", "weights: none"]
    assert result.notes == []
    assert probe(replace(request_, run_needs=None)).problems == []


def test_what_was_left_out_of_the_request_is_noted(request_):
    needs = replace(request_.run_needs, own=request_.run_needs.own[:1])
    result = probe(replace(request_, run_needs=needs))
    assert result.problems[0].startswith("blobs: [0] ")
    (note,) = result.notes
    assert "on behalf of 1 of 3 configurations" in note
