"""The fence, and the verdict on what a trainer left."""

from __future__ import annotations

import json
import re

import pytest

from merge.errors import RecordError
from merge.records.manifest import Manifest
from merge.records.metrics import Metric
from merge.records.records import Cause, Claim, Outcome
from merge.records.result import Result, read_result
from merge.storage.paths import AttemptPaths, RunPaths
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Taken, release, take
from orchestrator.runs.commit import Aside, commit_result
from orchestrator.runs.verdict import judge

HASH = "0123456789abcdef"


@pytest.fixture
def paths(tmp_path) -> RunPaths:
    return RunPaths(tmp_path / "run")


def claim_now(paths: RunPaths) -> Claim:
    taking = take(paths, HASH, this_owner(), now=1.0)
    assert isinstance(taking, Taken)
    return taking.claim


def result_of(claim: Claim, score: float = 0.5) -> Result:
    return Result(
        run_id="r",
        config_hash=HASH,
        axes={},
        metrics={"score": score},
        attempt=claim.number,
        token=claim.token,
        started=1.0,
        finished=2.0,
    )


def test_a_held_claim_commits_its_result(paths):
    result = result_of(claim_now(paths))
    claim = Claim(number=1, token=result.token, owner=this_owner(), heartbeat=1.0)
    assert commit_result(paths, claim, result) is None
    assert read_result(paths.result) == result


def test_a_late_owner_cannot_commit_but_loses_nothing(paths):
    late = claim_now(paths)
    release(paths, late)
    claim_now(paths)
    result = result_of(late)
    aside = commit_result(paths, late, result)
    assert isinstance(aside, Aside)
    assert not paths.result.exists()
    assert read_result(aside.path) == result
    assert aside.path == paths.result_aside(late.token)


def test_a_second_result_never_replaces_the_first(paths):
    claim = claim_now(paths)
    commit_result(paths, claim, result_of(claim, 0.25))
    first = paths.result.read_bytes()
    aside = commit_result(paths, claim, result_of(claim, 0.75))
    assert isinstance(aside, Aside)
    assert paths.result.read_bytes() == first
    assert read_result(aside.path).metrics == {"score": 0.75}


def test_a_result_is_kept_aside_where_the_claim_was_removed_by_hand(paths):
    claim = claim_now(paths)
    paths.claim(1).unlink()
    assert isinstance(commit_result(paths, claim, result_of(claim)), Aside)


def test_nothing_is_committed_while_who_has_the_run_is_unknown(paths):
    claim = claim_now(paths)
    paths.claim(2).write_text("{")
    with pytest.raises(RecordError, match=r"claim-0002\.json"):
        commit_result(paths, claim, result_of(claim))
    assert not paths.result.exists()


MANIFEST = Manifest(
    metrics=(
        Metric(name="score", unit="percent"),
        Metric(name="other", range=(0.0, None)),
    )
)


@pytest.fixture
def attempt(tmp_path) -> AttemptPaths:
    (tmp_path / "0001").mkdir()
    return AttemptPaths(tmp_path / "0001")


def verdict_on(attempt: AttemptPaths, exit_code: int = 0, *, was_stopped: bool = False):
    stop_cause = Cause.INTERRUPTED if was_stopped else None
    return judge(attempt, exit_code, "score", MANIFEST, stop_cause=stop_cause)


def test_a_valid_result_and_exit_code_zero_is_done(attempt):
    attempt.result.write_text('{"metrics": {"score": 0.5, "other": 1}, "details": {"a": [1]}}')
    verdict = verdict_on(attempt)
    assert verdict.outcome is Outcome.DONE
    assert verdict.result is not None
    assert verdict.result.metrics == {"score": 0.5, "other": 1}
    assert verdict.result.details == {"a": [1]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not valid JSON"),
        ("score 0.5", "is not valid JSON"),
        ("[0.5]", "holds a JSON list"),
        ("{}", 'has no "metrics"'),
        ('{"metrics": {}}', 'has no "metrics"'),
        ('{"metrics": {"score": NaN}}', "NaN is not JSON"),
        ('{"metrics": {"score": 1e999}}', "larger than any number"),
        ('{"metrics": {"score": "0.5"}}', "not a finite number"),
        ('{"metrics": {"score": true}}', "not a finite number"),
        ('{"metrics": {"score": 0.1, "score": 0.9}}', "an object names 'score' twice"),
        ('{"metrics": {"score": 66.3}}', "score 66.3 is outside of the metric's range, 0 to 1"),
        ('{"metrics": {"score": 0.5, "other": -1}}', "other -1 is outside .*, at least 0"),
        ('{"metrics": {"scored": 0.5}}', "has no metric 'score'.*it has: scored"),
        ('{"metrics": {"score": 0.5}, "details": 3}', '"details" is not an object'),
    ],
)
def test_a_result_that_cannot_be_used_is_a_failure_that_names_the_file(attempt, content, words):
    attempt.result.write_text(content)
    verdict = verdict_on(attempt)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.result is None
    assert re.search(words, verdict.reason)
    assert str(attempt.result) in verdict.reason


def test_exit_code_zero_without_a_result_is_a_failure_that_says_what_is_missing(attempt):
    verdict = verdict_on(attempt)
    assert verdict.outcome is Outcome.FAILED
    assert "left no result.json in $PAPERGRID_ATTEMPT_DIR" in verdict.reason


def test_a_trainer_that_says_it_stopped_is_interrupted_not_failed(attempt):
    attempt.events.write_text('{"time": 1, "event": "epoch"}\n{"time": 2, "event": "stopped"}\n')
    assert verdict_on(attempt).outcome is Outcome.INTERRUPTED


@pytest.mark.parametrize("exit_code", [0, 1, 143, 137])
def test_an_attempt_that_was_asked_to_stop_is_interrupted_however_it_ends(attempt, exit_code):
    assert verdict_on(attempt, exit_code, was_stopped=True).outcome is Outcome.INTERRUPTED


def test_an_attempt_that_finishes_although_it_was_asked_to_stop_is_done(attempt):
    attempt.result.write_text('{"metrics": {"score": 0.5}}')
    assert verdict_on(attempt, was_stopped=True).outcome is Outcome.DONE


def test_an_error_of_its_own_outweighs_the_request_to_stop(attempt):
    (attempt.root / "error.json").write_text('{"kind": "nan", "message": "loss is NaN"}')
    verdict = verdict_on(attempt, 1, was_stopped=True)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, "nan: loss is NaN")


AGENT_REPORT = """Traceback (most recent call last):
RuntimeError: the real reason
E1121 05:00 42 torch/distributed/elastic/multiprocessing/api.py:9] failed (exitcode: 1) rank: 0
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
======
  traceback : To enable traceback see: https://example.org
======
"""


@pytest.mark.parametrize(
    ("exit_code", "stderr", "error", "reason"),
    [
        (1, "first\nlast words\n\n", None, "last words"),
        (1, "", None, "exit code 1"),
        (2, "words", {"kind": "data", "message": "no mask"}, "data: no mask"),
        (2, "words", {"message": "no mask"}, "no mask"),
        (139, "words", None, "killed by SIGSEGV"),
        (137, "", None, "killed by SIGKILL (by hand, or by a system short of memory)"),
        (200, "words", None, "words"),
        (1, AGENT_REPORT, None, "RuntimeError: the real reason"),
        (1, "\udcff".encode("utf-8", "surrogateescape") + b" broken\n", None, "\ufffd broken"),
        (1, "x" * 5000, None, "x" * 500),
    ],
)
def test_a_failure_gives_its_best_reason(attempt, exit_code, stderr, error, reason):
    attempt.stderr.write_bytes(stderr.encode() if isinstance(stderr, str) else stderr)
    if error:
        (attempt.root / "error.json").write_text(json.dumps(error))
    verdict = verdict_on(attempt, exit_code)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, reason)


def test_a_whole_result_counts_whatever_the_exit_code_and_the_record_says_so(attempt):
    attempt.result.write_text('{"metrics": {"score": 0.5}}')
    verdict = verdict_on(attempt, 134)
    assert (verdict.outcome, verdict.cause) == (Outcome.DONE, Cause.UNCLEAN_EXIT)
    assert verdict.result is not None
    assert "killed by SIGABRT" in verdict.reason


def test_a_result_of_a_trainer_that_says_it_failed_is_not_counted(attempt):
    attempt.result.write_text('{"metrics": {"score": 0.5}}')
    attempt.error.write_text('{"kind": "data", "message": "no mask"}')
    verdict = verdict_on(attempt, 3)
    assert (verdict.outcome, verdict.cause) == (Outcome.FAILED, Cause.DATA)
    assert verdict.result is None
