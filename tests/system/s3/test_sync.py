"""Push, pull and verify against a real S3 server that honours conditional writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bucket_trees import files, objects, unique_bytes, write_output, write_run
from support.fault_proxy import FaultProxy
from support.grids import make_grid, write_result
from support.s3_server import BUCKET, S3Server, environment, ministack

from merge.errors import BucketError, BucketUnavailableError, ConfigChangedError, IncompleteError
from merge.records.sweep import Sweep
from merge.storage.json_files import read_json, write_json
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.permissions import check_permissions
from orchestrator.s3.url import BucketTarget, parse_url
from orchestrator.sync import cache
from orchestrator.sync import commands as sync
from orchestrator.sync.cache import SyncCache
from orchestrator.sync.selection import Part, Selection

pytestmark = pytest.mark.system

ALL = Selection()
MERGED = SweepPaths.RESULTS_NAME


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with ministack(tmp_path_factory.mktemp("ministack")) as running:
        yield running


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    """Between us and the server; it damages nothing unless a test says so."""
    with FaultProxy(server.endpoint, seed=1, share=0.0).serving() as running:
        yield running


@pytest.fixture
def target(
    proxy: FaultProxy, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any
) -> BucketTarget:
    """A place in the bucket for one test, reached through the proxy."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    prefix = "".join(c if c.isalnum() else "-" for c in request.node.name)
    url = parse_url(f"s3://{BUCKET}/{prefix}")
    return BucketTarget(url=url, endpoint_url=proxy.endpoint, max_attempts=3)


@pytest.fixture
def sweep() -> Sweep:
    return make_grid()


@pytest.fixture
def output(tmp_path: Path, sweep: Sweep) -> Path:
    """An output folder in which folds 0 and 1 are finished."""
    return write_output(tmp_path / "here", sweep, sweep.runs[:2])


def test_a_push_brings_every_file_and_the_merged_view(
    server: S3Server, target: BucketTarget, output: Path
) -> None:
    report = sync.push(output, target, ALL)
    there = objects(server.client(), target.url.prefix)
    merged = json.loads(there.pop("replication_results.json"))
    assert there == files(output)
    assert report.exit_code == 0
    assert [cell["folds"] for cell in merged["results"].values()] == [["0", "1"]]


def test_a_second_push_writes_nothing(
    proxy: FaultProxy, target: BucketTarget, output: Path
) -> None:
    sync.push(output, target, ALL)
    proxy.requests.clear()
    report = sync.push(output, target, ALL)
    writes = [r for r in proxy.requests if r.startswith("PUT") and "papergrid-probe" not in r]
    assert (report.transferred, writes) == ({}, [])
    assert not [r for r in proxy.requests if r.startswith("HEAD")]


def test_without_its_memory_a_push_still_sends_nothing_twice(
    proxy: FaultProxy, target: BucketTarget, output: Path
) -> None:
    import shutil

    sync.push(output, target, ALL)
    shutil.rmtree(SweepPaths(output).sync.root)
    assert sync.push(output, target, ALL).transferred == {}


def test_only_what_changed_is_sent(target: BucketTarget, output: Path, sweep: Sweep) -> None:
    sync.push(output, target, ALL)
    log = f"{sweep.runs[0].path}/attempts/0001/stdout.log"
    (output / log).write_text("one more line\n")
    assert list(sync.push(output, target, ALL).transferred) == [log]


def test_checkpoints_go_first_and_the_result_last(
    proxy: FaultProxy, target: BucketTarget, output: Path, sweep: Sweep
) -> None:
    sync.push(output, target, ALL)
    path = f"/{target.url.bucket}/{target.url.prefix}/{sweep.runs[0].path}/"
    puts = [r.removeprefix(f"PUT {path}") for r in proxy.requests if r.startswith(f"PUT {path}")]
    assert puts == ["checkpoints/last.pt", "attempts/0001/stdout.log", "result.json"]


@pytest.mark.parametrize(
    ("selection", "suffixes"),
    [
        (Selection(parts=frozenset({Part.RESULTS})), {".log", ".json"}),
        (Selection(parts=frozenset({Part.CHECKPOINTS})), {".pt"}),
        (Selection(include=("*.log",)), {".log"}),
        (Selection(exclude=("*.pt", "*/attempts/*")), {".json"}),
    ],
)
def test_a_selection_sends_only_its_files(
    target: BucketTarget, output: Path, selection: Selection, suffixes: set[str]
) -> None:
    report = sync.push(output, target, selection)
    assert {Path(name).suffix for name in report.transferred} == suffixes


def test_a_dry_run_writes_nothing(proxy: FaultProxy, target: BucketTarget, output: Path) -> None:
    report = sync.push(output, target, ALL, is_dry=True)
    assert len(report.transferred) == 6
    assert not [r for r in proxy.requests if r.startswith(("PUT", "POST"))]


def test_another_plan_is_refused_with_the_difference(
    target: BucketTarget, output: Path, tmp_path: Path
) -> None:
    sync.push(output, target, ALL)
    other = make_grid(epochs=9)
    longer = write_output(tmp_path / "longer", other, other.runs[:1])
    with pytest.raises(ConfigChangedError, match="epochs: 1 -> 9"):
        sync.push(longer, target, ALL)
    with pytest.raises(ConfigChangedError, match="epochs: 1 -> 9"):
        sync.pull(longer, target, ALL)


def test_a_second_result_is_kept_aside_and_leaves_the_first_ones_files_alone(
    server: S3Server, target: BucketTarget, output: Path, sweep: Sweep, tmp_path: Path
) -> None:
    sync.push(output, target, ALL)
    before = objects(server.client(), target.url.prefix)
    late = write_output(tmp_path / "late", sweep, [])
    write_run(late, sweep.runs[0], 0.9, size=500, token="late")
    report = sync.push(late, target, ALL)
    after = objects(server.client(), target.url.prefix)
    aside = f"{sweep.runs[0].path}/result.aside-late.json"
    assert report.exit_code == 1
    assert "another result" in report.aside[0].reason
    before.pop(MERGED)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {MERGED, aside}
    assert [entry["file"] for entry in json.loads(after[MERGED])["aside"]] == [aside]


def test_files_of_a_run_that_another_server_finished_stay_here(
    server: S3Server, target: BucketTarget, output: Path, sweep: Sweep, tmp_path: Path
) -> None:
    sync.push(output, target, ALL)
    before = objects(server.client(), target.url.prefix)
    other = write_output(tmp_path / "other", sweep, [])
    write_run(other, sweep.runs[0], 0.9, size=500)
    SweepPaths(other).run(sweep.runs[0].path).result.unlink()
    report = sync.push(other, target, ALL)
    assert "has a result" in report.kept[0].reason
    assert objects(server.client(), target.url.prefix) == before


def test_a_pull_makes_the_same_folder_and_then_moves_nothing(
    target: BucketTarget, output: Path, tmp_path: Path
) -> None:
    sync.push(output, target, ALL)
    report = sync.pull(tmp_path / "there", target, ALL)
    assert files(tmp_path / "there") == files(output)
    assert (len(report.transferred), report.exit_code) == (6, 0)
    assert sync.pull(tmp_path / "there", target, ALL).transferred == {}


def test_a_pull_never_overwrites_a_result(
    target: BucketTarget, output: Path, sweep: Sweep, tmp_path: Path
) -> None:
    sync.push(output, target, ALL)
    mine = write_output(tmp_path / "mine", sweep, [])
    write_run(mine, sweep.runs[0], 0.9, size=500, token="mine")
    before = files(mine)
    report = sync.pull(mine, target, ALL)
    after = files(mine)
    kept = f"{sweep.runs[0].path}/result.aside-token-of-{sweep.runs[0].run_id}.json"
    assert report.exit_code == 1
    assert {name: after[name] for name in before} == before
    assert kept in after
    assert f"{sweep.runs[1].path}/result.json" in after


def test_a_pull_follows_what_the_other_side_changed_and_keeps_what_this_side_changed(
    target: BucketTarget, output: Path, sweep: Sweep, tmp_path: Path
) -> None:
    sync.push(output, target, ALL)
    there = tmp_path / "there"
    sync.pull(there, target, ALL)
    logs = [f"{run.path}/attempts/0001/stdout.log" for run in sweep.runs[:2]]
    (output / logs[0]).write_text("changed on the server\n")
    (there / logs[1]).write_text("changed here\n")
    sync.push(output, target, ALL)
    report = sync.pull(there, target, ALL)
    assert (there / logs[0]).read_text() == "changed on the server\n"
    assert (there / logs[1]).read_text() == "changed here\n"
    assert [issue.name for issue in report.kept] == [logs[1]]


def test_a_place_without_a_plan_is_no_sweep(target: BucketTarget, tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="no sweep in s3://"):
        sync.pull(tmp_path / "there", target, ALL)


def test_hostile_names_in_a_bucket_stay_there(
    server: S3Server, target: BucketTarget, output: Path, sweep: Sweep, tmp_path: Path
) -> None:
    sync.push(output, target, ALL)
    for name in ("../../evil", f"{sweep.runs[0].path}/../../../evil", "/evil", "strange/evil"):
        key = f"{target.url.prefix}/{name}"
        server.client().put_object(Bucket=BUCKET, Key=key, Body=b"evil")
    sync.pull(tmp_path / "deep/there", target, ALL)
    assert not list(tmp_path.rglob("*evil*"))
    assert files(tmp_path / "deep/there") == files(output)


@pytest.mark.parametrize(
    "what",
    [("checkpoints/last.pt", True), ("checkpoints/last.pt", False), ("result.json", True)],
)
def test_tampering_with_one_object_is_found_by_verify_and_by_pull(
    server: S3Server,
    target: BucketTarget,
    output: Path,
    sweep: Sweep,
    tmp_path: Path,
    what: tuple[str, bool],
) -> None:
    sync.push(output, target, ALL)
    assert sync.verify(output, target, ALL).exit_code == 0
    name, keeps_metadata = f"{sweep.runs[0].path}/{what[0]}", what[1]
    _tamper(server, f"{target.url.prefix}/{name}", keeps_metadata=keeps_metadata)
    verified = sync.verify(output, target, ALL)
    assert (verified.exit_code, {issue.name for issue in verified.damaged}) == (1, {name})
    report = sync.pull(tmp_path / "there", target, ALL)
    assert report.exit_code == 1
    assert name in report.problems[0].reason
    assert f"{sweep.runs[0].path}/result.json" not in files(tmp_path / "there")
    assert f"{sweep.runs[1].path}/result.json" in files(tmp_path / "there")


def test_a_damaged_result_is_not_counted(
    server: S3Server, target: BucketTarget, output: Path, sweep: Sweep
) -> None:
    sync.push(output, target, ALL)
    key = f"{target.url.prefix}/{sweep.runs[0].path}/result.json"
    _tamper(server, key, keeps_metadata=True)
    _remove_local(output, sweep)
    sync.push(output, target, ALL)
    there = objects(server.client(), target.url.prefix)
    (cell,) = json.loads(there["replication_results.json"])["results"].values()
    assert cell["folds"] == ["1"]


def test_verify_names_what_is_missing_and_what_differs(
    server: S3Server, target: BucketTarget, output: Path, sweep: Sweep
) -> None:
    sync.push(output, target, ALL)
    log = f"{sweep.runs[0].path}/attempts/0001/stdout.log"
    (output / log).write_text("not pushed\n")
    missing = f"{sweep.runs[1].path}/checkpoints/last.pt"
    server.client().delete_object(Bucket=BUCKET, Key=f"{target.url.prefix}/{missing}")
    verified = sync.verify(output, target, ALL, is_quick=True)
    assert [issue.name for issue in verified.different] == [log]
    assert [issue.name for issue in verified.missing] == [missing]
    assert verified.exit_code == 1


def test_verify_reads_the_files_here_too(
    target: BucketTarget, output: Path, sweep: Sweep, monkeypatch: Any
) -> None:
    log = output / sweep.runs[0].path / "attempts/0001/stdout.log"
    monkeypatch.setattr(cache, "_SETTLED_S", 0.0)
    sync.push(output, target, ALL)
    sync.push(output, target, ALL)
    place = SyncCache(output, Bucket(target)).paths.hashes
    known = read_json(place)
    log.write_bytes(log.read_bytes().upper())
    status = log.stat()
    stamp = [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]
    name = log.relative_to(output).as_posix()
    write_json(place, {**known, name: [*stamp, known[name][-1]]})
    verified = sync.verify(output, target, ALL)
    assert [issue.name for issue in verified.different] == [name]


@pytest.mark.parametrize("text", ['{"schema": 1', '{"schema": 2, "run_id": "x"}'])
def test_a_result_that_could_never_be_counted_is_not_sent(
    server: S3Server, target: BucketTarget, output: Path, sweep: Sweep, text: str
) -> None:
    damaged = SweepPaths(output).run(sweep.runs[0].path).result
    damaged.write_text(text)
    report = sync.push(output, target, ALL)
    assert [issue.name for issue in report.problems] == [sweep.runs[0].path]
    assert str(damaged) in report.problems[0].reason
    there = objects(server.client(), target.url.prefix)
    assert damaged.relative_to(output).as_posix() not in there
    (cell,) = json.loads(there["replication_results.json"])["results"].values()
    assert cell["folds"] == ["1"]


def test_an_interrupted_upload_in_parts_goes_on(
    proxy: FaultProxy, server: S3Server, target: BucketTarget, output: Path, sweep: Sweep
) -> None:
    checkpoint = SweepPaths(output).run(sweep.runs[0].path).last_checkpoint
    checkpoint.write_bytes(unique_bytes("large", 30_000_000))
    proxy.cut_after_parts = 2
    with pytest.raises(BucketUnavailableError):
        sync.push(output, target, ALL)
    proxy.cut_after_parts, proxy.is_down = None, False
    sent = {r for r in proxy.requests if "partNumber" in r}
    proxy.requests.clear()
    sync.push(output, target, ALL)
    again = {r for r in proxy.requests if "partNumber" in r}
    there = objects(server.client(), target.url.prefix)
    assert 0 < len(again) < 4 <= len(sent | again)
    assert there[f"{sweep.runs[0].path}/checkpoints/last.pt"] == checkpoint.read_bytes()
    assert sync.verify(output, target, ALL).exit_code == 0


def test_an_interrupted_download_goes_on(
    proxy: FaultProxy, target: BucketTarget, output: Path, sweep: Sweep, tmp_path: Path
) -> None:
    checkpoint = SweepPaths(output).run(sweep.runs[0].path).last_checkpoint
    checkpoint.write_bytes(unique_bytes("large", 30_000_000))
    sync.push(output, target, ALL)
    proxy.cut_after_ranges = 2
    with pytest.raises(BucketUnavailableError):
        sync.pull(tmp_path / "there", target, ALL)
    proxy.cut_after_ranges, proxy.is_down = None, False
    proxy.requests.clear()
    proxy.ranges.clear()
    sync.pull(tmp_path / "there", target, ALL)
    assert proxy.ranges[0] == "bytes=16777216-25165823"
    assert files(tmp_path / "there") == files(output)


def test_four_servers_at_once_lose_no_result_from_the_merged_view(
    server: S3Server, target: BucketTarget, tmp_path: Path
) -> None:
    sweep = make_grid(cells=[f"cell{number}" for number in range(4)])
    outputs = [
        write_output(tmp_path / f"server{i}", sweep, sweep.runs[i::4], size=100) for i in range(4)
    ]
    counts = [0]
    end = threading.Event()

    def watch() -> None:
        while not end.wait(0.02):
            there = objects_or_none(server, target)
            if there is not None:
                counts.append(sum(cell["n"] for cell in there["results"].values()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    pushers = [
        threading.Thread(target=_push_run_by_run, args=(output, target)) for output in outputs
    ]
    for pusher in pushers:
        pusher.start()
    for pusher in pushers:
        pusher.join()
    end.set()
    watcher.join()
    merged = objects_or_none(server, target)
    assert merged is not None
    assert sum(cell["n"] for cell in merged["results"].values()) == 16
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((403, "AccessDenied"), BucketError, "s3:GetObject on arn:aws:s3:::papers/"),
        ((403, "SignatureDoesNotMatch"), BucketError, "does not accept these credentials"),
        ((404, "NoSuchBucket"), BucketError, "there is no bucket 'papers'"),
        ((400, "ExpiredToken"), BucketUnavailableError, "have expired: renew"),
        ((403, "RequestTimeTooSkewed"), BucketUnavailableError, "clock differs"),
        ((503, "SlowDown"), BucketUnavailableError, "SlowDown"),
        ((500, "InternalError"), BucketUnavailableError, "InternalError"),
        ((400, "IllegalLocationConstraintException"), BucketError, "set --region to the bucket"),
    ],
)
def test_a_refusal_says_what_to_do(
    proxy: FaultProxy,
    target: BucketTarget,
    output: Path,
    answer: tuple[int, str],
    error: type[Exception],
    words: str,
) -> None:
    proxy.answer = answer
    with pytest.raises(error, match=words):
        sync.push(output, target, ALL)


def _flip(whole: bytes) -> bytes:
    """The same answer with its last byte changed."""
    return whole[:-1] + bytes([whole[-1] ^ 1])


def _no_body(whole: bytes) -> bytes:
    return whole[: whole.index(b"\r\n\r\n") + 4]


def _login_page(_: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"


@pytest.mark.parametrize("change", [_no_body, _login_page, _flip])
def test_the_first_answer_of_each_kind_may_be_broken(
    proxy: FaultProxy,
    server: S3Server,
    target: BucketTarget,
    output: Path,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
) -> None:
    seen: set[str] = set()

    def break_first(request: str, whole: bytes) -> bytes:
        kind = f"{request.partition(' ')[0]} {'list-type' in request} {'.json' in request}"
        if kind in seen:
            return whole
        seen.add(kind)
        return change(whole)

    proxy.change = break_first
    for _ in range(2):
        assert sync.push(output, target, ALL).exit_code == 0
        seen.clear()
    assert sync.pull(tmp_path / "there", target, ALL).exit_code == 0
    seen.clear()
    assert sync.verify(output, target, ALL).exit_code == 0
    there = objects(server.client(), target.url.prefix)
    assert files(tmp_path / "there") == files(output)
    assert {name: there[name] for name in files(output)} == files(output)
    (cell,) = json.loads(there[MERGED])["results"].values()
    assert cell["folds"] == ["0", "1"]


def test_a_wrong_clock_is_reported_in_seconds(
    proxy: FaultProxy, target: BucketTarget, output: Path
) -> None:
    proxy.answer = (403, "RequestTimeTooSkewed")
    proxy.clock_ahead_s = 2000
    with pytest.raises(BucketUnavailableError, match=r"by (199\d|200\d) s"):
        sync.push(output, target, ALL)


def test_every_permission_is_tried(
    proxy: FaultProxy, server: S3Server, target: BucketTarget
) -> None:
    found = check_permissions(target)
    assert [(each.name, each.is_given) for each in found] == [
        (name, True) for name in ("list", "put", "get", "conditional put", "delete")
    ]
    proxy.answer = (403, "AccessDenied")
    (denied,) = check_permissions(target)
    assert "s3:ListBucket on arn:aws:s3:::papers" in denied.reason


def objects_or_none(server: S3Server, target: BucketTarget) -> dict[str, Any] | None:
    """The merged view in the bucket, where there is one already."""
    client = server.client()
    try:
        key = f"{target.url.prefix}/replication_results.json"
        document: dict[str, Any] = json.loads(
            client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        )
    except client.exceptions.NoSuchKey:
        return None
    return document


def _push_run_by_run(output: Path, target: BucketTarget) -> None:
    for fold in range(4):
        sync.push(output, target, Selection(include=(f"*/fold{fold}/*",)))


def _tamper(server: S3Server, key: str, *, keeps_metadata: bool) -> None:
    client = server.client()
    head = client.head_object(Bucket=BUCKET, Key=key)
    body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read().replace(b"0", b"1") + b" "
    metadata = head["Metadata"] if keeps_metadata else {}
    client.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)


def _remove_local(output: Path, sweep: Sweep) -> None:
    import shutil

    shutil.rmtree(output / sweep.runs[0].path)
    write_result(output, sweep.runs[1], 0.001)
