"""Whether the file system of an output folder keeps what claims and results need."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from merge.errors import IncompleteError
from merge.storage.atomic import make_folder, storage_errors
from merge.storage.mounts import Mount, mount_of
from merge.storage.paths import SweepPaths
from orchestrator.doctor.check import Check, Found, attempt
from orchestrator.doctor.meeting import Meeting, meet
from orchestrator.doctor.trials import DOOMED, examine
from orchestrator.machine.own_modules import module_words, source_root

_NO_LINKS = "choose another folder: claims and results are made by hard links"
_ONE_HOST = (
    "the checks below used two processes of this host only: run "
    "`replicate doctor OUT --wait-for-peer` on two hosts"
)


def examine_folder(output: Path, *, waits_for_peer: bool, patience_s: float) -> list[Check]:
    """Check `output` with a second process: of this host, or with `waits_for_peer` of another.

    StorageError where nothing can be written there.
    """
    make_folder(output)
    kind = _kind(mount_of(output), is_between_hosts=waits_for_peer)
    links = _links(output)
    if links.verdict != "ok":
        return [kind, links]
    meetings = SweepPaths(output.resolve()).meetings
    try:
        with _partner(meetings, patience_s, waits_for_peer=waits_for_peer) as meeting:
            return [kind, *examine(meeting)]
    except IncompleteError as error:
        return [kind, Check("two processes meet", "refused", str(error), DOOMED)]


@contextmanager
def _partner(meetings: Path, patience_s: float, *, waits_for_peer: bool) -> Iterator[Meeting]:
    if waits_for_peer:
        with closing(meet(meetings, patience_s)) as meeting:
            yield meeting
        return
    # In a folder of its own, so that it does not meet the doctor of another host.
    meeting = Meeting(meetings / f"here-{secrets.token_hex(4)}", "first", patience_s)
    words = module_words(sys.executable, source_root(), "orchestrator.doctor.trials")
    second = subprocess.Popen(
        [*words, str(meeting.folder), str(patience_s)], stdin=subprocess.DEVNULL
    )
    try:
        yield meeting
    finally:
        second.kill()
        second.wait()
        meeting.close()


def _links(output: Path) -> Check:
    with storage_errors(output), TemporaryDirectory(dir=output, prefix=".link-") as folder:

        def link() -> Found:
            source = Path(folder, "source")
            source.touch()
            Path(folder, "target").hardlink_to(source)
            return "a hard link can be made", {}

        return attempt("link excludes", link, "a hard link cannot be made", _NO_LINKS)


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
