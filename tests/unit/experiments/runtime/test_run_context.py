"""The trainer's side of the run contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.runtime.run_context import read_context
from merge.errors import RecordError, UsageError

SPEC = {"schema": 1, "run_id": "a-fold0", "config": {"fold": 0}, "config_hash": "00ff"}


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(SPEC))
    return {
        "PAPERGRID_RUN_DIR": str(tmp_path),
        "PAPERGRID_RUN_SPEC": str(tmp_path / "run.json"),
        "PAPERGRID_ATTEMPT_DIR": str(tmp_path / "attempts" / "0001"),
        "PAPERGRID_DEVICE": "cpu",
        "PAPERGRID_CACHE_DIR": str(tmp_path / "cache"),
    }


def test_the_context_holds_what_the_contract_says(environment, tmp_path):
    context = read_context({**environment, "PAPERGRID_DATA_ROOT": "", "PAPERGRID_WEIGHTS": "/w.pt"})
    assert context.config == {"fold": 0}
    assert context.run.last_checkpoint == tmp_path / "checkpoints" / "last.pt"
    assert context.attempt.error == tmp_path / "attempts" / "0001" / "error.json"
    assert (context.data_root, context.weights) == (None, Path("/w.pt"))
    assert context.num_workers == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PAPERGRID_RUN_SPEC": ""}, "PAPERGRID_RUN_SPEC not set: .* run contract"),
        ({"PAPERGRID_RUN_SPEC": "/nowhere/run.json"}, "/nowhere/run.json, which does not exist"),
        ({"PAPERGRID_DEVICE": "gpu"}, "must be cuda or cpu"),
        ({"PAPERGRID_NUM_WORKERS": "-1"}, "must be 0 or a positive number"),
    ],
)
def test_a_broken_environment_is_a_usage_error(environment, change, message):
    with pytest.raises(UsageError, match=message):
        read_context({**environment, **change})


@pytest.mark.parametrize(
    "spec", [{**SPEC, "schema": 2}, {**SPEC, "config": None}, {"schema": 1}, [], "not JSON"]
)
def test_a_file_that_is_no_run_spec_is_a_record_error_with_its_path(environment, spec, tmp_path):
    text = spec if isinstance(spec, str) else json.dumps(spec)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RecordError, match=r"run\.json"):
        read_context(environment)
