"""Claims: one winner, live owners kept, dead owners overtaken, damage refused."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.simulated_disk import SimulatedClock, World

from merge.errors import RecordError
from merge.records.records import Claim, Owner, read_claim
from merge.records.result import Result
from merge.storage.json_files import write_json, write_json_exclusive
from merge.storage.paths import RunPaths
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.runs import claims
from orchestrator.runs.claims import Busy, Finished, Taken, beat, holds, is_live, release, take
from orchestrator.runs.heartbeat_watch import HeartbeatWatch

HASH = "0123456789abcdef"
NOW = 1_000_000.0


@pytest.fixture
def paths(tmp_path) -> RunPaths:
    return RunPaths(tmp_path / "run")


@pytest.fixture
def owner() -> Owner:
    return this_owner()


@pytest.fixture
def dead(owner) -> Owner:
    """An owner on this host that has lived and died."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    return replace(owner, pid=process.pid)


@pytest.fixture
def far(owner) -> Owner:
    return replace(owner, host="another-host", boot_id="another-boot")


def claim_now(paths: RunPaths, owner: Owner, *, now: float = NOW) -> Claim:
    taking = take(paths, HASH, owner, now=now)
    assert isinstance(taking, Taken), taking
    return taking.claim


def make_older(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def take_at(moments: list[float], paths: RunPaths, owner: Owner) -> list[Taken | Busy | Finished]:
    """What a process is told that asks again and again, at these times of its own clock."""
    watch = HeartbeatWatch(clock := SimulatedClock(World()))
    takings = []
    for clock.world.time in moments:
        takings.append(take(paths, HASH, owner, now=NOW, watch=watch))
    return takings


def write_result(paths: RunPaths, config_hash: str = HASH) -> Result:
    result = Result(
        run_id="r",
        config_hash=config_hash,
        axes={},
        metrics={"score": 0.5},
        attempt=1,
        token="t",
        started=1.0,
        finished=2.0,
    )
    assert write_json_exclusive(paths.result, result.to_json())
    return result


def test_an_owner_in_another_pid_namespace_is_not_judged_by_its_pid(owner):
    """Containers of one machine may share host name and boot; a pid means another process."""
    code = "from orchestrator.machine.owners import this_owner; print(this_owner())"
    words = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    root = Path(__file__).resolve().parents[4]
    try:
        done = subprocess.run(
            [*words, sys.executable, "-c", code],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no command unshare")
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no namespace of its own: {done.stderr.strip()}")
    inside = eval(done.stdout, {"Owner": Owner})
    assert (inside.host, inside.pid) == (owner.host, 1)
    assert owner_alive(inside, owner) is None


class CommittedMeanwhile(HeartbeatWatch):
    """While we look whether the owner lives, it commits and gives the run back."""

    def silence_s(self, paths: RunPaths, claim: Claim, read_at: float) -> float:  # noqa: ARG002
        write_result(paths)
        release(paths, claim)
        return math.inf


def test_a_result_that_comes_between_the_look_and_the_claim_is_seen(paths, owner, far):
    claim_now(paths, far)
    taking = take(paths, HASH, owner, now=NOW, watch=CommittedMeanwhile())
    assert isinstance(taking, Finished)
    assert read_claim(paths.claim(2)).released


def test_a_claim_that_says_another_number_is_refused_by_name(paths, owner):
    """Else the next claim would be one below a higher number: no owner could commit."""
    first = claim_now(paths, owner)
    release(paths, first)
    write_json(paths.claim(5), replace(first, released=True).to_json())
    with pytest.raises(RecordError, match=r"claim-0005\.json says that it is claim 1"):
        take(paths, HASH, owner, now=NOW)


def test_a_run_without_a_claim_is_taken_with_claim_one(paths, owner):
    claim = claim_now(paths, owner)
    assert claim.number == 1
    assert read_claim(paths.claim(1)) == claim
    assert holds(paths, claim)


def test_a_live_owner_on_this_host_keeps_its_run_however_old_its_heartbeat(paths, owner):
    first = claim_now(paths, owner)
    assert take(paths, HASH, owner, now=NOW + 1e6) == Busy(first)


def test_a_dead_owner_on_this_host_is_overtaken_at_once_and_its_claim_left_as_it_was(
    paths, owner, dead
):
    first = claim_now(paths, dead)
    before = paths.claim(1).read_bytes()
    second = claim_now(paths, owner)
    assert second.number == 2
    assert second.token != first.token
    assert paths.claim(1).read_bytes() == before
    assert not holds(paths, first)


def test_a_reused_process_id_is_no_living_owner(paths, owner):
    claim_now(paths, replace(owner, pid_started="1"))
    assert claim_now(paths, owner).number == 2


def test_an_unreaped_dead_owner_is_dead(owner):
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{process.pid}/stat")
    started = stat.read_text().rpartition(")")[2].split()[19]
    child = replace(owner, pid=process.pid, pid_started=started)
    assert owner_alive(child, owner) is True
    process.kill()
    while " Z " not in stat.read_text():
        pass
    assert owner_alive(child, owner) is False
    process.communicate()


@pytest.mark.parametrize(("age_s", "is_overtaken"), [(50.0, False), (61.0, True)])
@pytest.mark.parametrize("skew_s", [-1e6, 0.0, 1e6])
def test_an_owner_on_another_host_is_dead_when_its_claim_is_old_by_the_file_systems_clock(
    paths, owner, far, age_s, is_overtaken, skew_s
):
    first = claim_now(paths, far, now=time.time() + skew_s)
    make_older(paths.claim(1), age_s)
    taking = take(paths, HASH, owner, now=time.time())
    assert isinstance(taking, Taken) if is_overtaken else taking == Busy(first)


def test_a_heartbeat_renews_a_claim(paths, owner, far):
    claim = claim_now(paths, far)
    make_older(paths.claim(1), 61)
    claim = beat(paths, claim, now=NOW + 50)
    assert take(paths, HASH, owner, now=NOW + 100) == Busy(claim)


def test_an_owner_is_dead_when_its_heartbeat_was_seen_unchanged_for_its_expiry(paths, owner, far):
    """Where files carry the clock of a host that is ahead, they never grow old."""
    claim_now(paths, far)
    make_older(paths.claim(1), -1e6)
    takings = take_at([0.0, 59.0, 61.0], paths, owner)
    assert [type(taking) for taking in takings] == [Busy, Busy, Taken]


def test_every_change_of_a_heartbeat_that_is_seen_begins_the_wait_anew(paths, owner, far):
    claim = claim_now(paths, far)
    watch = HeartbeatWatch(clock := SimulatedClock(World()))
    takings = [take(paths, HASH, owner, now=NOW, watch=watch)]
    # Backwards: only that it changes counts, not to what.
    beat(paths, claim, now=NOW - 1e6)
    for seconds in (59.0, 41.0, 20.0):
        clock.world.time += seconds
        takings.append(take(paths, HASH, owner, now=NOW, watch=watch))
    assert [type(taking) for taking in takings] == [Busy, Busy, Busy, Taken]


@pytest.mark.parametrize(("promise_s", "is_overtaken"), [(5.0, True), (600.0, False)])
def test_a_claim_expires_when_its_owner_said_whoever_asks(
    paths, owner, far, promise_s, is_overtaken
):
    assert isinstance(take(paths, HASH, far, now=NOW, expiry_s=promise_s), Taken)
    make_older(paths.claim(1), 61)
    taking = take(paths, HASH, owner, now=NOW, expiry_s=60)
    assert isinstance(taking, Taken) is is_overtaken


def test_a_claim_of_an_older_version_without_a_promise_expires_after_a_minute(paths, owner, far):
    document = claim_now(paths, far).to_json()
    del document["expiry_s"]
    write_json(paths.claim(1), document)
    assert isinstance(take(paths, HASH, owner, now=NOW), Busy)
    make_older(paths.claim(1), 61)
    assert isinstance(take(paths, HASH, owner, now=NOW), Taken)


def test_a_claim_that_vanishes_while_it_is_judged_was_given_back(paths, far):
    claim = claim_now(paths, far)
    paths.claim(1).unlink()
    assert HeartbeatWatch().silence_s(paths, claim, 0.0) == math.inf


def test_a_released_run_can_be_taken_at_once(paths, owner):
    release(paths, claim_now(paths, owner))
    assert claim_now(paths, owner).number == 2


def test_a_finished_run_is_not_claimed(paths, owner):
    result = write_result(paths)
    assert take(paths, HASH, owner, now=NOW) == Finished(result)
    assert paths.claim_numbers() == []


def test_a_result_of_another_configuration_is_refused(paths, owner):
    write_result(paths, "f" * 16)
    with pytest.raises(RecordError, match=r"result\.json belongs to another configuration"):
        take(paths, HASH, owner, now=NOW)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 1}', '{"schema": 7}', '{"schema": 1, "owner": 3}']
)
def test_an_unreadable_claim_refuses_the_run_and_names_the_file(paths, owner, content):
    paths.root.mkdir()
    paths.claim(4).write_text(content)
    with pytest.raises(RecordError, match=r"claim-0004\.json.*unknown.*remove that file"):
        take(paths, HASH, owner, now=NOW)


def test_an_attempt_whose_claim_was_removed_by_hand_is_never_reused(paths, owner):
    paths.attempt(1).root.mkdir(parents=True)
    claim = claim_now(paths, owner)
    assert claim.number == 2
    assert read_claim(paths.claim(1)).released


def test_of_many_takers_at_once_exactly_one_wins(paths, owner, dead):
    claim_now(paths, dead)
    takings: list[Taken | Busy | Finished] = []
    barrier = threading.Barrier(8)

    def compete() -> None:
        barrier.wait()
        takings.append(take(paths, HASH, owner, now=NOW))

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [taking for taking in takings if isinstance(taking, Taken)]
    assert len(winners) == 1
    assert len(takings) == 8
    assert paths.claim_numbers() == [1, 2]


def test_a_claim_with_our_number_but_another_token_is_not_held(paths, owner):
    claim = claim_now(paths, owner)
    write_json(paths.claim(1), replace(claim, token="other").to_json())
    assert not holds(paths, claim)


def test_a_dead_owners_processes_are_killed_before_its_run_is_taken(paths, owner, dead):
    first = claim_now(paths, dead)
    orphan = subprocess.Popen(["sleep", "60"], env={"PAPERGRID_TOKEN": first.token})
    claim_now(paths, owner)
    assert orphan.wait(60) == -9


@pytest.mark.parametrize("alive", [True, False, None])
def test_a_released_claim_is_never_live(paths, owner, alive):
    claim = replace(claim_now(paths, owner), released=True)
    assert not is_live(claim, alive, silence_s=0.0)


def test_a_claim_is_given_back_where_the_second_look_for_a_result_fails(paths, owner, monkeypatch):
    looks = iter([None, RecordError("result.json is damaged"), None, None])

    def look(*_: object) -> None:
        if error := next(looks):
            raise error

    monkeypatch.setattr(claims, "finished", look)
    with pytest.raises(RecordError, match="damaged"):
        take(paths, HASH, owner, now=NOW)
    assert claim_now(paths, owner).number == 2
