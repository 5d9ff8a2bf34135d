"""Claims through a real S3 server, between hosts that share no folder."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.bucket_trees import objects, write_output, write_run
from support.commands import MarkedCommand, replicate
from support.fault_proxy import FaultProxy
from support.grids import make_grid, write_result
from support.s3_server import BUCKET, S3Server, environment, ministack, rclone

from merge.errors import ConfigChangedError, IncompleteError
from merge.records.records import AttemptRecord, Cause, Outcome, Owner
from merge.records.sweep import Run, read_sweep
from merge.storage.atomic import write_bytes
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.bucket_claims.claims import FolderAndBucketClaims
from orchestrator.bucket_claims.plan import sync_plan
from orchestrator.bucket_claims.remote_claims import HasResult, RemoteClaims
from orchestrator.local.events import RunOutcome
from orchestrator.local.executor import LocalSettings, run_local
from orchestrator.machine.devices import Devices
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Busy, Finished, Taken
from orchestrator.runs.requests import all_attempts
from orchestrator.runs.states import State
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.url import BucketTarget, parse_url
from orchestrator.sync import commands as sync
from orchestrator.sync.backlog import Backlog
from orchestrator.sync.selection import Selection
from replicate import api

pytestmark = pytest.mark.system

STUDY = """\
name: plain
command: [sh, train.sh, "{seed}"]
axes:
  lr: [0.1]
  seed: [0, 1, 2, 3, 4, 5]
average_over: seed
metric: {name: loss, goal: min}
"""

TRAIN = """\
mkdir -p "$PAPERGRID_RUN_DIR/checkpoints"
echo "$1" >> "$LOG_OF_STARTS"
last="$PAPERGRID_RUN_DIR/checkpoints/last.pt"
if [ -f "$last" ]; then echo "$1 from $(cat "$last")" >> "$LOG_OF_STARTS.resumed"; fi
echo "step of seed $1" > "$last"
sleep "$NAP"
echo "{\\"metrics\\": {\\"loss\\": 0.$1}}" > "$PAPERGRID_ATTEMPT_DIR/result.json"
"""

FAIL_AT_3 = """\
[ "$1" != 3 ] || exit 9
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with ministack(tmp_path_factory.mktemp("ministack")) as running:
        yield running


@pytest.fixture
def target(
    server: S3Server, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any
) -> BucketTarget:
    """A place in the bucket for one test."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    prefix = "".join(c if c.isalnum() else "-" for c in request.node.name)
    url = parse_url(f"s3://{BUCKET}/{prefix}")
    return BucketTarget(url=url, endpoint_url=server.endpoint, max_attempts=5)


def host(name: str) -> Owner:
    """A process on another host: only its heartbeats show whether it is alive."""
    return replace(this_owner(), host=name)


def test_one_of_many_gets_a_run(target: BucketTarget) -> None:
    def take(number: int) -> object:
        claims = RemoteClaims(Bucket(target))
        return claims.take("run/fold0", host(f"host{number}"), now=time.time(), expiry_s=60)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(take, range(8)))
    (winner,) = [taking for taking in found if isinstance(taking, Taken)]
    assert {t.claim.token for t in found if isinstance(t, Busy)} == {winner.claim.token}


def test_a_run_without_heartbeats_is_taken_over_and_its_first_owner_knows_it(
    target: BucketTarget,
) -> None:
    dead, heir = RemoteClaims(Bucket(target)), RemoteClaims(Bucket(target))
    taken = dead.take("run/fold0", host("a"), now=time.time(), expiry_s=8.0)
    assert isinstance(taken, Taken)
    assert isinstance(heir.take("run/fold0", host("b"), now=time.time(), expiry_s=60), Busy)
    new = _until_taken(heir, "run/fold0")
    assert new.claim.number == 2
    assert not dead.holds("run/fold0", taken.claim)
    dead.beat("run/fold0", taken.claim, now=time.time())
    assert heir.holds("run/fold0", new.claim)


def test_heartbeats_keep_a_run_and_a_release_gives_it_back(target: BucketTarget) -> None:
    owner, other = RemoteClaims(Bucket(target)), RemoteClaims(Bucket(target))
    taken = owner.take("run/fold0", host("a"), now=time.time(), expiry_s=8.0)
    assert isinstance(taken, Taken)
    claim = taken.claim
    end = time.monotonic() + 10
    while time.monotonic() < end:
        claim = owner.beat("run/fold0", claim, now=time.time())
        assert isinstance(other.take("run/fold0", host("b"), now=time.time(), expiry_s=8.0), Busy)
    owner.release("run/fold0", claim)
    assert isinstance(other.take("run/fold0", host("b"), now=time.time(), expiry_s=8.0), Taken)


def test_lost_answers_lose_no_claim(server: S3Server, target: BucketTarget) -> None:
    with FaultProxy(server.endpoint, seed=7, share=0.4).serving() as proxy:
        claims = RemoteClaims(Bucket(replace(target, endpoint_url=proxy.endpoint, max_attempts=12)))
        for number in range(3):
            run = f"run/fold{number}"
            taken = claims.take(run, host("a"), now=time.time(), expiry_s=60)
            assert isinstance(taken, Taken)
            claim = claims.beat(run, taken.claim, now=time.time())
            assert claims.holds(run, claim)
            claims.release(run, claim)
            assert isinstance(claims.take(run, host("b"), now=time.time(), expiry_s=60), Taken)
        assert proxy.counts["cut after"] + proxy.counts["500 after"] > 0


def test_a_run_with_a_result_there_is_fetched_and_not_run(
    target: BucketTarget, tmp_path: Path
) -> None:
    sweep = make_grid()
    run = sweep.runs[0]
    done = write_output(tmp_path / "done", sweep, [run])
    sync.push(done, target, Selection())
    assert isinstance(
        RemoteClaims(Bucket(target)).take(run.path, host("b"), now=time.time(), expiry_s=60),
        HasResult,
    )
    here = write_output(tmp_path / "here", sweep, [])
    claims = FolderAndBucketClaims(here, target, sweep, heartbeat_s=60)
    paths = SweepPaths(here.resolve()).run(run.path)
    found = claims.take(paths, run.config_hash, host("b"), now=time.time())
    claims.close()
    assert isinstance(found, Finished)
    assert paths.last_checkpoint.is_file()


def test_an_overtaken_owner_may_not_commit(target: BucketTarget, tmp_path: Path) -> None:
    sweep = make_grid()
    run = sweep.runs[0]
    places = [write_output(tmp_path / name, sweep, []).resolve() for name in ("a", "b")]
    paused, heir = (
        FolderAndBucketClaims(place, target, sweep, heartbeat_s=3600) for place in places
    )
    paths = [SweepPaths(place).run(run.path) for place in places]
    first = paused.take(paths[0], run.config_hash, host("a"), now=time.time(), expiry_s=1.0)
    assert isinstance(first, Taken)
    assert paused.may_commit(paths[0], first.claim)
    deadline = time.monotonic() + 30
    while not isinstance(
        second := heir.take(paths[1], run.config_hash, host("b"), now=time.time()), Taken
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not paused.may_commit(paths[0], first.claim)
    assert heir.may_commit(paths[1], second.claim)
    paused.close()
    heir.close()


def test_a_run_is_given_back_only_when_its_result_is_there(
    target: BucketTarget, tmp_path: Path
) -> None:
    sweep = make_grid()
    run = sweep.runs[0]
    here = write_output(tmp_path / "here", sweep, []).resolve()
    claims = FolderAndBucketClaims(here, target, sweep, heartbeat_s=3600)
    paths = SweepPaths(here).run(run.path)
    taken = claims.take(paths, run.config_hash, host("a"), now=time.time())
    assert isinstance(taken, Taken)
    write_run(here, run, 0.5)
    claims.release(paths, taken.claim)
    other = RemoteClaims(Bucket(target))
    assert isinstance(other.take(run.path, host("b"), now=time.time(), expiry_s=60), Busy)
    sync.push(here, target, Selection())
    claims.release_sent(run, claims.ended_token(run))
    assert isinstance(other.take(run.path, host("b"), now=time.time(), expiry_s=60), HasResult)
    claims.close()


def test_a_result_that_comes_while_checkpoints_are_sent_is_sent_before_the_run_is_given_back(
    server: S3Server, target: BucketTarget, tmp_path: Path
) -> None:
    sweep = make_grid()
    run = sweep.runs[0]
    here = write_output(tmp_path / "here", sweep, []).resolve()
    claims = FolderAndBucketClaims(here, target, sweep, heartbeat_s=0.1)
    backlog = Backlog(here, replace(target, max_bytes_per_s=1e6), sweep.runs, claims)
    claims.on_run_ended = backlog.add
    paths = SweepPaths(here).run(run.path)
    taken = claims.take(paths, run.config_hash, host("a"), now=time.time())
    assert isinstance(taken, Taken)
    for name in ("best.pt", "last.pt"):
        write_bytes(paths.checkpoints / name, bytes(3_000_000))
    backlog.start()
    prefix = target.url.key("")
    client = server.client()
    _until(lambda: f"{run.path}/checkpoints/best.pt" in objects(client, prefix.rstrip("/")))
    write_result(here, run, 0.5)
    claims.release(paths, taken.claim)
    other = RemoteClaims(Bucket(target))
    found: list[object] = []

    def is_given_back() -> bool:
        found.append(other.take(run.path, host("b"), now=time.time(), expiry_s=60))
        return not isinstance(found[-1], Busy)

    _until(is_given_back)
    assert isinstance(found[-1], HasResult)
    backlog.close(30)
    claims.close()


def test_two_servers_without_a_shared_folder_share_a_grid(server: S3Server, tmp_path: Path) -> None:
    workers = [_worker(tmp_path, server, name, nap="0.3") for name in ("one", "two")]
    processes = [worker.start(worker.cwd / "log") for worker in workers]
    logs = [(worker.cwd / "log") for worker in workers]
    assert [p.wait(120) for p in processes] == [0, 0], [log.read_text() for log in logs]
    assert sorted(_starts(tmp_path)) == [str(seed) for seed in range(6)]
    there = objects(server.client(), "shared")
    (cell,) = json.loads(there["replication_results.json"])["results"].values()
    assert (cell["n"], cell["complete"]) == (6, True)
    assert len([name for name in there if Path(name).match("lr=*/seed=*/result.json")]) == 6
    assert not [name for name in there if "aside" in name]
    for worker in workers:
        assert len(list(worker.cwd.glob("outputs/study/*/*/result.json"))) == 6
        assert not list(worker.cwd.glob("outputs/study/*/*/result.aside-*"))


def test_a_killed_servers_run_goes_on_elsewhere_from_its_checkpoint(
    server: S3Server, tmp_path: Path
) -> None:
    victim = _worker(tmp_path, server, "victim", place="killed", nap="300")
    process = victim.start(tmp_path / "victim.log")
    _until(lambda: any(".pt" in name for name in objects(server.client(), "killed")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    begun = set(_starts(tmp_path))
    heir = _worker(tmp_path, server, "heir", place="killed", nap="0.1")
    done = heir.start(tmp_path / "heir.log")
    assert done.wait(120) == 0, (tmp_path / "heir.log").read_text()
    resumed = (tmp_path / "starts.resumed").read_text().splitlines()
    assert set(resumed) <= {f"{seed} from step of seed {seed}" for seed in begun}
    assert resumed
    merged = json.loads(objects(server.client(), "killed")["replication_results.json"])
    assert [cell["n"] for cell in merged["results"].values()] == [6]


def test_a_run_that_fails_everywhere_is_tried_as_often_as_the_study_says_over_all_servers(
    server: S3Server, tmp_path: Path
) -> None:
    study = f"{STUDY}retries: {{unknown: 1}}\n"
    workers = [
        _worker(tmp_path, server, name, place="failing", nap="0.3", study=study)
        for name in ("one", "two", "three")
    ]
    for worker in workers:
        worker.cwd.joinpath("train.sh").write_text(TRAIN.replace("sleep", FAIL_AT_3 + "sleep"))
    processes = [worker.start(worker.cwd / "log") for worker in workers]
    logs = [(worker.cwd / "log") for worker in workers]
    assert [p.wait(120) for p in processes] == [1, 1, 1], [log.read_text() for log in logs]
    starts = _starts(tmp_path)
    assert {seed: starts.count(seed) for seed in set(starts)} == {
        **dict.fromkeys("01245", 1),
        "3": 2,
    }
    told = "".join(log.read_text() for log in logs)
    assert f"on {this_owner().host}: " in told
    # A person who gives the command again means it: what failed before is no reason not to start.
    again = workers[0].start(logs[0])
    assert again.wait(120) == 1
    assert _starts(tmp_path).count("3") == 3


def test_a_failure_elsewhere_between_a_look_at_a_run_and_its_claim_counts(
    target: BucketTarget, tmp_path: Path
) -> None:
    sweep = make_grid()
    run = sweep.runs[0]
    there, here = (write_output(tmp_path / name, sweep, []).resolve() for name in ("a", "b"))
    far = FolderAndBucketClaims(there, target, sweep, heartbeat_s=3600)

    class FailsElsewhere(FolderAndBucketClaims):
        def take(self, paths: RunPaths, *words: Any, **settings: Any) -> Any:
            far_paths = SweepPaths(there).run(run.path)
            taken = far.take(far_paths, run.config_hash, host("far"), now=time.time())
            assert isinstance(taken, Taken)
            write_attempt(there, run, Outcome.FAILED)
            far.release(far_paths, taken.claim)
            sync.push(there, target, Selection())
            far.release_sent(run, far.ended_token(run))
            return super().take(paths, *words, **settings)

    claims = FailsElsewhere(here, target, sweep, heartbeat_s=3600)
    settings = LocalSettings(
        devices=Devices(kind="cpu", slots=("cpu0",)),
        cache_dir=tmp_path / "cache",
        stand_by=True,
        claims=claims,
    )
    report = run_local(sweep, [run], here, settings, lambda _: None)
    far.close()
    claims.close()
    ending = report.endings[run.run_id]
    assert (ending.outcome, ending.reason) == (RunOutcome.FAILED, "on far: it broke")
    paths = SweepPaths(here).run(run.path)
    assert [record.owner.host for record in all_attempts(paths)] == ["far"]


def test_only_what_failed_before_a_command_was_given_is_tried_again(
    target: BucketTarget, tmp_path: Path
) -> None:
    sweep = make_grid(folds=range(2))
    failed, done = sweep.runs
    there = write_output(tmp_path / "there", sweep, []).resolve()
    far = FolderAndBucketClaims(there, target, sweep, heartbeat_s=3600)
    far_paths = SweepPaths(there).run(failed.path)
    assert isinstance(far.take(far_paths, failed.config_hash, host("far"), now=time.time()), Taken)
    write_attempt(there, failed, Outcome.FAILED)
    write_run(there, done, 0.5)
    sync.push(there, target, Selection())
    claims = FolderAndBucketClaims(there, target, sweep, heartbeat_s=3600)
    assert claims.failed_before(far_paths, 0.0) == {"t"}
    assert claims.failed_before(far_paths, 600.0) == set()
    assert claims.failed_before(SweepPaths(there).run(done.path), 0.0) == set()
    assert [record.reason for record in claims.history(far_paths)] == ["it broke"]
    far.close()
    claims.close()


def test_status_shows_runs_that_other_hosts_have_or_have_finished(
    target: BucketTarget, tmp_path: Path
) -> None:
    sweep = make_grid(folds=range(6))
    done, held, lost, failed, new, _ = sweep.runs
    there = write_output(tmp_path / "there", sweep, [])
    for run, outcome in ((failed, Outcome.FAILED), (held, None), (lost, None)):
        write_attempt(there, run, outcome)
    sync.push(there, target, Selection())
    far = RemoteClaims(Bucket(target))
    for run, expiry_s in ((held, 60.0), (lost, 1.0), (failed, 60.0), (new, 60.0)):
        taken = far.take(run.path, host("far"), now=time.time(), expiry_s=expiry_s)
        assert isinstance(taken, Taken)
        if run is failed:
            far.release(run.path, taken.claim)
    # A store tells times in whole seconds: an age of 3.1 s is 3 or 4.
    time.sleep(3.1)
    write_run(there, done, 0.5)
    sync.push(there, target, Selection())
    nowhere = tmp_path / "nowhere"
    status = api.status(nowhere, target)
    assert [each.state.state for each in status.runs] == [
        *(State.DONE, State.RUNNING, State.FAILED, State.FAILED, State.CLAIMED, State.PENDING)
    ]
    by_id = {each.run.run_id: each.state for each in status.runs}
    assert (by_id[held.run_id].host, by_id[held.run_id].epoch) == ("far", 7)
    assert 2.0 < (by_id[held.run_id].heartbeat_age_s or 0.0) < 60.0
    assert by_id[lost.run_id].cause is Cause.LOST
    assert by_id[failed.run_id].reason == "it broke"
    (cell,) = status.merged.document["results"].values()
    assert cell["n"] == 1
    assert not nowhere.exists()
    here = write_output(tmp_path / "here", sweep, [new])
    counts = Counter(each.state.state for each in api.status(here, target).runs)
    assert (counts[State.DONE], counts[State.CLAIMED]) == (2, 0)
    other = write_output(tmp_path / "other", make_grid(folds=range(6), epochs=2), [])
    with pytest.raises(ConfigChangedError, match="plan the same runs"):
        api.status(other, target)


def test_a_plan_is_copied_from_the_folder_to_the_bucket_or_the_other_way(
    target: BucketTarget, tmp_path: Path
) -> None:
    sweep = make_grid()
    with pytest.raises(IncompleteError):
        sync_plan(target, tmp_path / "new")
    sync_plan(target, write_output(tmp_path / "here", sweep, []))
    sync_plan(target, tmp_path / "new")
    assert read_sweep(SweepPaths(tmp_path / "new").sweep) == sweep
    other = write_output(tmp_path / "other", make_grid(epochs=2), [])
    with pytest.raises(ConfigChangedError, match="epochs"):
        sync_plan(target, other)


def write_attempt(output: Path, run: Run, outcome: Outcome | None) -> None:
    """An attempt of a process on the host `far`, at its seventh epoch; its end, if it has one."""
    record = AttemptRecord(
        number=1,
        token="t",
        owner=host("far"),
        command=(),
        device="cpu",
        devices=(),
        started=time.time(),
        code={},
        ended=time.time() if outcome else None,
        exit_code=3 if outcome else None,
        outcome=outcome,
        cause=Cause.UNKNOWN if outcome else None,
        reason="it broke" if outcome else "",
    )
    files = SweepPaths(output).run(run.path).attempt(1)
    write_json(files.record, record.to_json())
    event = {"event": "epoch", "time": time.time(), "epoch": 7}
    write_bytes(files.events, json.dumps(event).encode() + b"\n")


def test_a_store_that_ignores_conditions_is_refused_for_claims(tmp_path: Path) -> None:
    with rclone(tmp_path / "rclone") as unlike:
        worker = _worker(tmp_path, unlike, "one", nap="0")
        done = replicate(*worker.words, cwd=worker.cwd, env=worker.env)
    assert done.returncode == 2
    assert "no run can be claimed there" in done.stderr
    assert not (tmp_path / "starts").exists()


def _worker(
    folder: Path,
    server: S3Server,
    name: str,
    *,
    place: str = "shared",
    nap: str,
    study: str = STUDY,
) -> MarkedCommand:
    """A server of its own: its own folder, the same study."""
    home = folder / name
    home.mkdir()
    (home / "study.yaml").write_text(study)
    (home / "train.sh").write_text(TRAIN)
    env = {**environment(folder), "LOG_OF_STARTS": str(folder / "starts"), "NAP": nap}
    words = ["run", "--study", "study.yaml", "--devices", "cpu:1", "--stand-by"]
    words += ["--claim-expiry", "6", "--claims", f"s3://{BUCKET}/{place}", *server.flags]
    return MarkedCommand(words, home, env)


def _starts(folder: Path) -> list[str]:
    return (folder / "starts").read_text().split()


def _until_taken(claims: RemoteClaims, run: str) -> Taken:
    deadline = time.monotonic() + 30
    while not isinstance(
        taking := claims.take(run, host("b"), now=time.time(), expiry_s=60), Taken
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return taking


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
