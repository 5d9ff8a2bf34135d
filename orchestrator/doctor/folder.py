"""What two processes prove of the folder they share. Pure, but for `examine_folder`."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

from merge.errors import IncompleteError
from merge.storage.atomic import make_folder, storage_errors
from merge.storage.mounts import Mount, mount_of
from merge.storage.paths import SweepPaths
from orchestrator.doctor.check import Check, Verdict
from orchestrator.doctor.folder_probe import NUM_ROUNDS, Evidence, examine
from orchestrator.doctor.rendezvous import meet, remove_if_empty
from orchestrator.machine.own_modules import module_words, source_root

_TOLERATED_DELAY_S = 3.0
_TOLERATED_SKEW_S = 1.0
_SKEW_THAT_EXPIRES_CLAIMS_S = 15.0
_CHOOSE_ANOTHER = "choose another folder: several processes on this one would lose results"
_NO_LINKS = "choose another folder: claims and results are made by hard links"
_ONE_HOST = (
    "what follows was proved between two processes of this host only: run "
    "`replicate doctor OUT --wait-for-peer` on two hosts"
)
_SLOW = "give --claim-expiry of some minutes where several hosts share this folder"
_DOOMED = "do not let several hosts share this folder; use one host, or another folder"


def examine_folder(output: Path, *, waits_for_peer: bool, patience_s: float) -> list[Check]:
    """Prove what holds in `output` between two processes: of this host, or of two.

    StorageError where nothing can be written there.
    """
    make_folder(output)
    kind = _kind(mount_of(output), is_between_hosts=waits_for_peer)
    if without_links := _without_links(output):
        return [kind, without_links]
    meetings = SweepPaths(output.resolve()).meetings
    if waits_for_peer:
        return [kind, *_examine_with(meetings, patience_s)]
    # A place of its own, where no other host's doctor is met.
    alone = meetings / f"here-{secrets.token_hex(4)}"
    second = _start_second(alone, patience_s)
    try:
        return [kind, *_examine_with(alone, patience_s)]
    finally:
        second.kill()
        second.wait()
        remove_if_empty(meetings)


def _examine_with(meetings: Path, patience_s: float) -> list[Check]:
    host = os.uname().nodename
    try:
        meeting = meet(meetings, host, patience_s)
        try:
            own, other = examine(meeting, host)
            meeting.part()
        finally:
            meeting.close()
    except IncompleteError as error:
        return [_unheard(error)]
    return judge(own, other)


def _without_links(output: Path) -> Check | None:
    """A refusal where `output` has no hard links; None where it has."""
    source, target = (output / f".link-{secrets.token_hex(4)}" for _ in range(2))
    with storage_errors(source):
        source.touch()
    try:
        os.link(source, target)
        target.unlink()
    except OSError as error:
        finding = f"a hard link cannot be made: {error.strerror}"
        return Check(name="link excludes", verdict="refused", finding=finding, fix=_NO_LINKS)
    finally:
        source.unlink(missing_ok=True)
    return None


def judge(own: Evidence, other: Evidence) -> list[Check]:
    """What both saw, as checks: what papergrid stands on first, then what it does without."""
    return [
        *(_exclusion(way, own, other) for way in sorted(own.won)),
        _rename(own, other),
        _sight("a new file, listed and opened", "new, listed", own, other),
        _sight("a replaced file, listed and opened", "replaced, listed", own, other),
        _clocks(own, other),
        _delay_only("a new file, opened at once", "new, opened", own, other),
        _delay_only("a new file, asked for with exists()", "new, exists", own, other),
        _delay_only("a replaced file, opened at once", "replaced, opened", own, other),
        *(_lock(name, own) for name in sorted(own.locks)),
    ]


def _start_second(meetings: Path, patience_s: float) -> subprocess.Popen[bytes]:
    words = module_words(sys.executable, source_root(), "orchestrator.doctor.folder_probe")
    return subprocess.Popen(
        [*words, str(meetings), "a second process", str(patience_s)], stdin=subprocess.DEVNULL
    )


def _kind(mount: Mount, *, is_between_hosts: bool) -> Check:
    where = f"{mount.kind} on {mount.point}"
    options = [word for word in mount.options.split(",") if word.startswith(("vers=", "nolock"))]
    sharing = "of this host only" if mount.is_local else "may be shared with other hosts"
    is_proof = mount.is_local or is_between_hosts
    return Check(
        name="file system",
        verdict="ok" if is_proof else "warning",
        finding=f"{' '.join([where, *options])}, {sharing}",
        fix="" if is_proof else _ONE_HOST,
        numbers={"kind": mount.kind, "is_local": mount.is_local},
    )


def _unheard(error: IncompleteError) -> Check:
    return Check(name="two processes meet", verdict="refused", finding=str(error), fix=_DOOMED)


def _exclusion(way: str, own: Evidence, other: Evidence) -> Check:
    both = set(own.won[way]) & set(other.won[way])
    won = len(set(own.won[way]) | set(other.won[way]))
    numbers = {"rounds": NUM_ROUNDS, "both_won": len(both), "nobody_won": NUM_ROUNDS - won}
    share = f"{len(own.won[way])} : {len(other.won[way])}"
    is_right = not both and won == NUM_ROUNDS
    # Claims and results are made by link alone.
    bad: Verdict = "refused" if way == "link" else "warning"
    finding = f"{NUM_ROUNDS} races, one winner each ({share})"
    if not is_right:
        finding = f"of {NUM_ROUNDS} races two won {len(both)}, nobody {NUM_ROUNDS - won}"
    return Check(
        name=f"{way} excludes",
        verdict="ok" if is_right else bad,
        finding=finding,
        fix="" if is_right else _CHOOSE_ANOTHER,
        numbers=numbers,
    )


def _rename(own: Evidence, other: Evidence) -> Check:
    torn = own.torn + other.torn
    numbers = {
        "torn": torn,
        "backwards": own.backwards + other.backwards,
        "gone": own.gone + other.gone,
    }
    return Check(
        name="rename is atomic",
        verdict="refused" if torn else "ok",
        finding=f"{torn} reads held a part of a file" if torn else "no read held a part of a file",
        fix=_CHOOSE_ANOTHER if torn else "",
        numbers=numbers,
    )


def _sight(name: str, way: str, own: Evidence, other: Evidence) -> Check:
    """How papergrid itself looks: it must see at once."""
    delay_s = _slower(way, own, other)
    is_soon = delay_s is not None and delay_s <= _TOLERATED_DELAY_S
    late: Verdict = "refused" if delay_s is None else "warning"
    return Check(
        name=name,
        verdict="ok" if is_soon else late,
        finding=_delay_text(delay_s),
        fix="" if is_soon else _DOOMED if delay_s is None else _SLOW,
        numbers={"seconds": delay_s},
    )


def _delay_only(name: str, way: str, own: Evidence, other: Evidence) -> Check:
    delay_s = _slower(way, own, other)
    return Check(
        name=name,
        verdict="ok",
        finding=f"{_delay_text(delay_s)} (papergrid does not rely on it)",
        numbers={"seconds": delay_s},
    )


def _slower(way: str, own: Evidence, other: Evidence) -> float | None:
    first, second = own.seen_after_s[way], other.seen_after_s[way]
    return None if first is None or second is None else max(first, second)


def _delay_text(delay_s: float | None) -> str:
    return "not seen while we waited" if delay_s is None else f"seen after {delay_s:.2f} s"


def _clocks(own: Evidence, other: Evidence) -> Check:
    assert own.peer_ahead_s is not None
    skew_s = abs(own.peer_ahead_s)
    # Where the server stamps files, the two hosts' distances to it differ by what they differ.
    unexplained_s = abs((other.clock_ahead_s - own.clock_ahead_s) - own.peer_ahead_s)
    numbers = {
        "peer_ahead_s": round(own.peer_ahead_s, 3),
        "ahead_of_files_s": round(own.clock_ahead_s, 3),
        "files_stamped_by_one_clock": unexplained_s < _TOLERATED_SKEW_S,
    }
    finding = f"{other.host} and {own.host} differ by {skew_s:.1f} s"
    if unexplained_s > _SKEW_THAT_EXPIRES_CLAIMS_S:
        return Check(
            name="clocks agree",
            verdict="refused",
            finding=f"{finding}, and each host stamps files by its own clock: a live host's claims "
            f"would look expired",
            fix="set both clocks (NTP)",
            numbers=numbers,
        )
    is_close = skew_s <= _TOLERATED_SKEW_S
    return Check(
        name="clocks agree",
        verdict="ok" if is_close else "warning",
        finding=finding,
        fix="" if is_close else "set both clocks (NTP): claims are safe, times shown are not",
        numbers=numbers,
    )


def _lock(name: str, own: Evidence) -> Check:
    return Check(
        name=f"native lock ({name})",
        verdict="ok",
        finding=f"{own.locks[name]} (papergrid does not rely on it)",
        numbers={"result": own.locks[name]},
    )
