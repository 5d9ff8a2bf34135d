"""What the evidence of two processes says of the folder they share. Pure, but `examine_folder`."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

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
_UNUSED = "(papergrid does not rely on it)"
_CHOOSE_ANOTHER = "choose another folder: several processes on this one would lose results"
_NO_LINKS = "choose another folder: claims and results are made by hard links"
_ONE_HOST = (
    "the checks below used two processes of this host only: run "
    "`replicate doctor OUT --wait-for-peer` on two hosts"
)
_SLOW = "set --claim-expiry to some minutes where several hosts share this folder"
_DOOMED = "do not let several hosts share this folder; use one host, or another folder"


def examine_folder(output: Path, *, waits_for_peer: bool, patience_s: float) -> list[Check]:
    """Check `output` with a second process: of this host, or with `waits_for_peer` of another.

    StorageError where nothing can be written there.
    """
    make_folder(output)
    kind = _kind(mount_of(output), is_between_hosts=waits_for_peer)
    if without_links := _without_links(output):
        return [kind, without_links]
    meetings = SweepPaths(output.resolve()).meetings
    if waits_for_peer:
        return [kind, *_examine_with(meetings, patience_s)]
    # In a folder of its own, so that it does not meet the doctor of another host.
    alone = meetings / f"here-{secrets.token_hex(4)}"
    words = module_words(sys.executable, source_root(), "orchestrator.doctor.folder_probe")
    second = subprocess.Popen(
        [*words, str(alone), "a second process", str(patience_s)], stdin=subprocess.DEVNULL
    )
    try:
        return [kind, *_examine_with(alone, patience_s)]
    finally:
        second.kill()
        second.wait()
        remove_if_empty(meetings)


def _examine_with(meetings: Path, patience_s: float) -> list[Check]:
    host = os.uname().nodename
    try:
        with closing(meet(meetings, host, patience_s)) as meeting:
            return judge(*examine(meeting, host))
    except IncompleteError as error:
        return [Check("two processes meet", "refused", str(error), _DOOMED)]


def _without_links(output: Path) -> Check | None:
    """A refusal where `output` has no hard links; None where it has."""
    with storage_errors(output), TemporaryDirectory(dir=output, prefix=".link-") as folder:
        source = Path(folder, "source")
        source.touch()
        try:
            Path(folder, "target").hardlink_to(source)
        except OSError as error:
            finding = f"a hard link cannot be made: {error.strerror}"
            return Check("link excludes", "refused", finding, _NO_LINKS)
    return None


def _kind(mount: Mount, *, is_between_hosts: bool) -> Check:
    options = [word for word in mount.options.split(",") if word.startswith(("vers=", "nolock"))]
    where = " ".join([f"{mount.kind} on {mount.point}", *options])
    sharing = "of this host only" if mount.is_local else "may be shared with other hosts"
    return Check(
        "file system",
        "ok" if mount.is_local or is_between_hosts else "warning",
        f"{where}, {sharing}",
        _ONE_HOST,
        {"kind": mount.kind, "is_local": mount.is_local},
    )


_SIGHTS = {
    "a new file, listed and opened": ("new, listed", True),
    "a replaced file, listed and opened": ("replaced, listed", True),
    "a new file, opened at once": ("new, opened", False),
    "a new file, asked for with exists()": ("new, exists", False),
    "a replaced file, opened at once": ("replaced, opened", False),
}
"""Check -> (way of looking, whether papergrid looks so)."""


def judge(own: Evidence, other: Evidence) -> list[Check]:
    """What both saw, as checks."""
    return [
        *(_exclusion(way, own, other) for way in sorted(own.won)),
        _rename(own, other),
        *(_sight(name, own, other) for name in _SIGHTS),
        _clocks(own, other),
        *(
            Check(f"native lock ({name})", "ok", f"{result} {_UNUSED}", numbers={"result": result})
            for name, result in sorted(own.locks.items())
        ),
    ]


def _exclusion(way: str, own: Evidence, other: Evidence) -> Check:
    ours, theirs = set(own.won[way]), set(other.won[way])
    both, without = len(ours & theirs), NUM_ROUNDS - len(ours | theirs)
    numbers = {"rounds": NUM_ROUNDS, "both_won": both, "nobody_won": without}
    if not both and not without:
        finding = f"{NUM_ROUNDS} races, one winner each ({len(ours)} : {len(theirs)})"
        return Check(f"{way} excludes", "ok", finding, numbers=numbers)
    finding = f"of {NUM_ROUNDS} races {both} had two winners, {without} had none"
    # Claims and results are made by link alone.
    verdict: Verdict = "refused" if way == "link" else "warning"
    return Check(f"{way} excludes", verdict, finding, _CHOOSE_ANOTHER, numbers)


def _rename(own: Evidence, other: Evidence) -> Check:
    torn = own.torn + other.torn
    numbers = {
        "torn": torn,
        "backwards": own.backwards + other.backwards,
        "gone": own.gone + other.gone,
    }
    finding = f"{torn or 'no'} reads held a part of a file"
    verdict: Verdict = "refused" if torn else "ok"
    return Check("rename is atomic", verdict, finding, _CHOOSE_ANOTHER, numbers)


def _sight(name: str, own: Evidence, other: Evidence) -> Check:
    way, is_used = _SIGHTS[name]
    delays_s = own.seen_after_s[way], other.seen_after_s[way]
    slower_s = None if None in delays_s else max(delay_s or 0.0 for delay_s in delays_s)
    finding = "not seen in time" if slower_s is None else f"seen after {slower_s:.2f} s"
    numbers = {"seconds": slower_s}
    if not is_used:
        return Check(name, "ok", f"{finding} {_UNUSED}", numbers=numbers)
    if slower_s is None:
        return Check(name, "refused", finding, _DOOMED, numbers)
    verdict: Verdict = "ok" if slower_s <= _TOLERATED_DELAY_S else "warning"
    return Check(name, verdict, finding, _SLOW, numbers)


def _clocks(own: Evidence, other: Evidence) -> Check:
    assert own.peer_ahead_s is not None
    skew_s = abs(own.peer_ahead_s)
    # Where the server stamps files, the hosts' distances to its clock differ by their skew.
    unexplained_s = abs((other.clock_ahead_s - own.clock_ahead_s) - own.peer_ahead_s)
    numbers = {
        "peer_ahead_s": round(own.peer_ahead_s, 3),
        "ahead_of_files_s": round(own.clock_ahead_s, 3),
        "files_stamped_by_one_clock": unexplained_s < _TOLERATED_SKEW_S,
    }
    finding, fix = f"{other.host} and {own.host} differ by {skew_s:.1f} s", "set both clocks (NTP)"
    if unexplained_s > _SKEW_THAT_EXPIRES_CLAIMS_S:
        finding += (
            ", and each host stamps files by its own clock: a live host's claims would look expired"
        )
        return Check("clocks agree", "refused", finding, fix, numbers)
    verdict: Verdict = "ok" if skew_s <= _TOLERATED_SKEW_S else "warning"
    fix += ": claims are safe, the times shown are wrong"
    return Check("clocks agree", verdict, finding, fix, numbers)
