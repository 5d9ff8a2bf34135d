"""Claims: which process has a run. They save work; the fence is `commit.commit_result`.

A claim is a file of its own (`RunPaths.claim`), created exclusively; the highest number has the
run. It is live while it is not released and its owner lives. On the same host and boot the system
is asked (a suspended process lives); on another host, its heartbeat must be newer than its expiry.
A dead owner's claim is never changed: the next number takes the run over.

Also right where other hosts share the folder by NFS (docs/shared-folders.md): what another host may
have made is listed before it is opened, and no two hosts' clocks are compared.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

from merge.errors import PapergridError, RecordError, StorageError
from merge.records.records import EXPIRY_S, Claim, Owner, read_claim
from merge.records.result import MisplacedResultError, Result, read_result
from merge.storage.atomic import storage_errors
from merge.storage.json_files import write_json, write_json_exclusive
from merge.storage.nfs import fresh_names
from merge.storage.paths import RunPaths
from orchestrator.machine.guard import TOKEN, kill_marked
from orchestrator.machine.owners import owner_alive
from orchestrator.runs.heartbeat_watch import HeartbeatWatch
from orchestrator.runs.misplaced import set_misplaced_aside

_MAX_LOOKS = 5
"""At a claim that seems dead, where each look takes longer than its expiry: a very slow disk."""


_given_up: set[str] = set()
"""Tokens of claims that may be on disk although their creation failed, and that could not be
released. Nothing was started under them; while this process lives, they would count as live."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The run is ours."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Busy:
    """A live owner has the run, or has just taken it before us."""

    claim: Claim
    silence_s: float | None = field(default=None, compare=False)
    """Seconds without a heartbeat; None where they were not measured."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The run has its result."""

    result: Result


def take(
    paths: RunPaths,
    config_hash: str,
    owner: Owner,
    *,
    now: float,
    expiry_s: float = EXPIRY_S,
    watch: HeartbeatWatch | None = None,
) -> Taken | Busy | Finished:
    """Claim a run for `owner`, unless it is finished or a live owner has it.

    Processes that a dead owner left running on this host are killed first. `now` is in Unix
    seconds; without a heartbeat for `expiry_s`, other hosts may take the run over from `owner`;
    `watch` remembers the heartbeats that were seen of other hosts.
    RecordError where the result or the highest claim is unreadable or not of this plan.
    """
    if result := finished(paths, config_hash):
        return Finished(result)
    last = _free_or_busy(paths, owner, watch or HeartbeatWatch())
    if isinstance(last, Busy):
        return last
    draft = Claim(number=0, token="", owner=owner, heartbeat=now, expiry_s=expiry_s)
    claim = _create(paths, last.number + 1 if last else 1, draft)
    if claim is None:
        return Busy(_must_exist(paths))
    try:
        # The last owner may have committed between the first look and its release.
        result = finished(paths, config_hash)
        set_misplaced_aside(paths, claim.number)
    except BaseException:
        _give_up(paths, claim)
        raise
    if result:
        release(paths, claim)
        return Finished(result)
    return Taken(claim)


def _free_or_busy(paths: RunPaths, owner: Owner, watch: HeartbeatWatch) -> Claim | Busy | None:
    """The highest claim where `owner` may take the run after it, else who has the run."""
    for _ in range(_MAX_LOOKS):
        read_at = watch.clock.monotonic()
        last = last_claim(paths)
        if last is None or last.released or last.token in _given_up:
            return last
        alive = owner_alive(last.owner, owner)
        silence_s = watch.silence_s(paths, last, read_at) if alive is None else None
        if is_live(last, alive, silence_s=silence_s or 0.0):
            return Busy(last, silence_s)
        if alive is False:
            kill_marked(TOKEN, last.token)
            return last
        # This process may have been stopped since it read the claim, while the owner lived on.
        if watch.clock.monotonic() - read_at < last.expiry_s:
            return last
    return last


def finished(paths: RunPaths, config_hash: str) -> Result | None:
    """The run's result; None where there is none yet. RecordError where it is not of this plan."""
    result = _read_result(paths)
    if result is None and paths.result.name in fresh_names(paths.root, paths.disk):
        result = _read_result(paths)
    if result is not None and result.config_hash != config_hash:
        raise RecordError(
            f"{paths.result} belongs to another configuration ({result.config_hash}, the plan has "
            f"{config_hash}): use another output folder, or move that file away",
            path=paths.result,
        )
    return result


def last_claim(paths: RunPaths) -> Claim | None:
    """The claim that has the run; None where it was never claimed. RecordError if unreadable."""
    numbers = paths.claim_numbers()
    return _read(paths, numbers[-1]) if numbers else None


def is_live(claim: Claim, alive: bool | None, *, silence_s: float) -> bool:
    """Whether `claim` still holds its run: by `alive` of `owner_alive`; where None, by silence."""
    if claim.released:
        return False
    return silence_s < claim.expiry_s if alive is None else alive


def holds(paths: RunPaths, claim: Claim) -> bool:
    """Whether `claim` has the run: it is still the highest, with its own token."""
    last = last_claim(paths)
    return last is not None and (last.number, last.token) == (claim.number, claim.token)


def beat(paths: RunPaths, claim: Claim, *, now: float) -> Claim:
    """Write a heartbeat of Unix time `now` into `claim`'s file; return the claim as written."""
    beaten = replace(claim, heartbeat=now)
    write_json(paths.claim(claim.number), beaten.to_json(), paths.disk)
    return beaten


def release(paths: RunPaths, claim: Claim) -> None:
    """Give the run back: the next process may take it at once."""
    path = paths.claim(claim.number)
    try:
        write_json(path, replace(claim, released=True).to_json(), paths.disk)
    except (StorageError, OSError):
        # A full disk must not keep the run claimed as long as this process lives: to remove the
        # claim needs no space, and an attempt's number is never used twice (see `_create`).
        with storage_errors(path):
            paths.disk.unlink(path)


def _create(paths: RunPaths, number: int, draft: Claim) -> Claim | None:
    """`draft` as a claim from `number` on; None where another process was faster."""
    while True:
        claim = replace(draft, number=number, token=secrets.token_hex(8))
        if not _write_new(paths, claim):
            return None
        # An attempt of this number can only be there if its claim was removed by hand.
        if not paths.disk.exists(paths.attempt(number).root):
            return claim
        release(paths, claim)
        number += 1


def _write_new(paths: RunPaths, claim: Claim) -> bool:
    """Whether the file of `claim` was made by this call."""
    try:
        return write_json_exclusive(paths.claim(claim.number), claim.to_json(), paths.disk)
    except BaseException:
        # It may be there all the same: a link whose reply was lost, an fsync of the folder that
        # failed.
        _give_up(paths, claim)
        raise


def _give_up(paths: RunPaths, claim: Claim) -> None:
    """Release `claim` where it is there; else this process takes the run over it later."""
    try:
        if holds(paths, claim):
            release(paths, claim)
    except (PapergridError, OSError):
        _given_up.add(claim.token)


def _read_result(paths: RunPaths) -> Result | None:
    try:
        return read_result(paths.result, paths.disk)
    # What a command put there is no result; `take` moves it away.
    except (FileNotFoundError, MisplacedResultError):
        return None
    except StorageError:
        raise
    except RecordError as error:
        raise RecordError(
            f"{error}: make it readable, or move it away to train the run again; nothing was "
            f"overwritten",
            path=paths.result,
        ) from error


def _must_exist(paths: RunPaths) -> Claim:
    last = last_claim(paths)
    if last is None:
        raise RecordError(
            f"the claims in {paths.root} vanish while runs start: stop the process that removes "
            f"them",
            path=paths.root,
        )
    return last


def _read(paths: RunPaths, number: int) -> Claim:
    path = paths.claim(number)
    try:
        claim = read_claim(path, paths.disk)
        if claim.number != number:
            raise RecordError(f"{path} says that it is claim {claim.number}", path=path)
    except FileNotFoundError as error:
        raise RecordError(
            f"{path} vanished while it was read: run the same command again", path=path
        ) from error
    # The file may be in order: no advice to remove it.
    except StorageError:
        raise
    except RecordError as error:
        raise RecordError(
            f"{error}: which process has this run is unknown, so it is not started; make sure that "
            f"none trains it, then remove that file",
            path=path,
        ) from error
    return claim
