"""What must be equal on all servers: papergrid's own sources, and packages that move numbers."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

PACKAGES = ("torch", "torchvision", "timm", "numpy")
"""Packages whose version can change numbers."""

_SOURCE = Path(__file__).resolve().parent.parent.parent
_CONTROL_PLANE = ("replicate", "orchestrator", "merge")


def control_digest() -> str:
    """16 hex digits over the sources of the control plane, independent of the install path."""
    digest = sha256()
    for package in _CONTROL_PLANE:
        for path in sorted((_SOURCE / package).rglob("*.py")):
            content = sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(_SOURCE).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """Versions of the PACKAGES that are installed. Imports none of them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
