"""Whether a file is the archive that the manifest describes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from experiments.datasets.prepare.manifest import Archive

_CHUNK = 1 << 20


def mismatch(path: Path, archive: Archive) -> str | None:
    """How `path` differs from `archive`, in words; None where all that is known agrees."""
    size = path.stat().st_size
    if archive.bytes is not None and size != archive.bytes:
        return f"it has {size:,} bytes, not {archive.bytes:,}"
    wanted = {"md5": archive.md5, "sha256": archive.sha256}
    digests = {name: digest for name, digest in wanted.items() if digest is not None}
    for name, found in _digests(path, tuple(digests)).items():
        if found != digests[name]:
            return f"its {name} is {found}, not {digests[name]}"
    return None


def _digests(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    if not names:
        return {}
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for digest in hashes.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in hashes.items()}
