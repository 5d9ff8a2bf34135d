"""A notebook trains with `sync` and `claims` as the command does, with a real S3 server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bucket_trees import objects
from support.fault_proxy import FaultProxy
from support.s3_server import BUCKET, S3Server, environment, ministack

from merge.errors import ConfigChangedError, UsageError
from merge.storage.paths import SweepPaths
from orchestrator.local.events import LocalReport, Notice, RunEvent, RunOutcome
from orchestrator.plan.plan import Plan
from orchestrator.runs.states import State
from orchestrator.s3.url import BucketTarget
from replicate import api

pytestmark = pytest.mark.system

STUDY = """\
name: plain
command: [sh, train.sh, "{seed}"]
axes:
  lr: [0.1]
  seed: [0, 1, 2, 3]
average_over: seed
metric: {name: loss, goal: min}
"""
TRAIN = """\
sleep 0.2
echo "{\\"metrics\\": {\\"loss\\": 0.$1}}" > "$PAPERGRID_ATTEMPT_DIR/result.json"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with ministack(tmp_path_factory.mktemp("ministack")) as running:
        yield running


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.sh").write_text(TRAIN)
    (tmp_path / "study.yaml").write_text(STUDY)
    return api.plan(tmp_path / "study.yaml")


def place(server: S3Server, name: str) -> BucketTarget:
    return api.bucket(f"s3://{BUCKET}/{name}", endpoint_url=server.endpoint)


def train(plan: Plan, output: Path, **more: object) -> LocalReport:
    settings = api.local_settings(plan, devices="cpu:2", cache_dir=output.parent / "cache")
    return api.run(plan, output, settings, **more)  # type: ignore[arg-type]


def names_in(server: S3Server, name: str) -> set[str]:
    return set(objects(server.client(), name))


def test_what_a_notebook_trains_is_sent(server, plan, tmp_path):
    report = train(plan, tmp_path / "out", sync=place(server, "sync"))
    assert report.exit_code == 0
    assert report.unsent is not None
    assert report.unsent.unsent_runs == ()
    sent = names_in(server, "sync")
    assert {f"{run.path}/result.json" for run in plan.runs} <= sent
    assert {"sweep.json", "replication_results.json"} <= sent


def test_two_folders_share_the_runs_through_claims(server, plan, tmp_path):
    reports: dict[str, LocalReport] = {}

    def share(name: str) -> None:
        reports[name] = train(plan, tmp_path / name, claims=place(server, "claims"))

    # Signals reach the main thread alone, so the second trainer of this process has its own.
    first = threading.Thread(target=share, args=("a",))
    first.start()
    share("b")
    first.join()
    done = [ending.run.run_id for r in reports.values() for ending in r.having(RunOutcome.DONE)]
    assert sorted(done) == sorted(run.run_id for run in plan.runs)
    assert {f"{run.path}/result.json" for run in plan.runs} <= names_in(server, "claims")
    status = api.status(tmp_path / "elsewhere", place(server, "claims"))
    assert status.counts == {State.DONE: len(plan.runs)}


def test_a_bucket_with_another_plan_is_refused_before_anything_is_written(server, plan, tmp_path):
    train(plan, tmp_path / "first", sync=place(server, "other"))
    (tmp_path / "study.yaml").write_text(STUDY.replace('"{seed}"', '"{seed}", again'))
    changed = api.plan(tmp_path / "study.yaml")
    with pytest.raises(ConfigChangedError, match=r"plans runs of study .* differently"):
        train(changed, tmp_path / "second", sync=place(server, "other"))
    assert not (tmp_path / "second").exists()


def test_a_bucket_that_is_away_stops_no_training_and_the_report_says_what_is_missing(
    server, plan, tmp_path
):
    events: list[RunEvent] = []
    with FaultProxy(server.endpoint, seed=0, share=0.0).serving() as proxy:
        proxy.is_down = True
        there = api.bucket(f"s3://{BUCKET}/away", endpoint_url=proxy.endpoint)
        report = train(
            plan, tmp_path / "out", sync=there, sync_patience_s=0.5, listeners=[events.append]
        )
    assert len(report.having(RunOutcome.DONE)) == len(plan.runs)
    assert report.exit_code == 75
    assert report.unsent is not None
    assert {run.run_id for run in report.unsent.unsent_runs} == {run.run_id for run in plan.runs}
    assert any(isinstance(e, Notice) and "training continues" in e.message for e in events)
    assert all(SweepPaths(tmp_path / "out").run(run.path).has_result() for run in plan.runs)


def test_sync_and_claims_must_be_one_place(plan, tmp_path):
    with pytest.raises(UsageError, match="name two places"):
        train(plan, tmp_path / "out", sync="s3://papers/a", claims="s3://papers/b")
    assert not (tmp_path / "out").exists()
