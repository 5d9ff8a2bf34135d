"""Which kind of file system a folder lies on. Linux: reads /proc/self/mountinfo."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
# A list of the local ones, not of the remote ones: an unknown file system (fuse, a cluster's own)
# is treated as shared, which costs a check and loses nothing.
_LOCAL = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "tmpfs", "xfs", "zfs")
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Where a folder's file system is mounted, and what it is."""

    point: Path
    kind: str
    """As the kernel names it: ext4, nfs4, fuse.sshfs, ..."""
    options: str
    source: str

    @property
    def is_local(self) -> bool:
        """Whether only this machine writes to it, so that its native locks hold."""
        return self.kind in _LOCAL


def mount_of(path: Path) -> Mount:
    """The mount that `path` lies on, be it there yet or not."""
    return find_mount(_MOUNTS.read_text(encoding="utf-8", errors="replace"), path.resolve())


def find_mount(mountinfo: str, path: Path) -> Mount:
    """The mount of the resolved `path` in the text of a mountinfo file."""
    best = Mount(point=Path("/"), kind="unknown", options="", source="")
    for line in mountinfo.splitlines():
        mount = _parse(line)
        is_above = mount.point == path or mount.point in path.parents
        # `>=`: a later mount at the same place hides the earlier one.
        if is_above and len(mount.point.parts) >= len(best.point.parts):
            best = mount
    return best


def _parse(line: str) -> Mount:
    # The number of optional fields before " - " varies (proc(5)), so what follows is counted from
    # there.
    fields, _, rest = line.partition(" - ")
    kind, source, *options = rest.split(" ")
    return Mount(
        # The kernel writes spaces and backslashes of a path as octal codes.
        point=Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields.split(" ")[4])),
        kind=kind,
        options=" ".join(options),
        source=source,
    )
