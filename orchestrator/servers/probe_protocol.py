"""The request to check a server, and the result: JSON in both directions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Configurations for which a server looks for packages, weights and data."""

    shared: dict[str, Any]
    """What all of them have in common."""
    own: list[dict[str, Any]]
    """What each has besides."""
    num_configs: int
    """How many there are in all; `own` may leave some out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequest:
    """What a server is to check. Paths are as the server sees them."""

    mark: str
    """First word of the line with the result: banners and start-up files print lines too."""
    output: str
    probe: str
    """A folder below `output`, or an object in the bucket, that was made for this check."""
    nonce: str
    """Content of the file `here` in that folder, or of that object."""
    server: str
    command: list[str] | None
    experiment: str | None = None
    needs: list[dict[str, Any]]
    """Resources of the runs, without duplicates."""
    devices: str | None
    allow_busy: bool
    data_root: str | None
    cache_dir: str | None
    weights: str | None
    min_free_gb: float
    """In GiB."""
    share_timeout_s: int
    claims: dict[str, Any] | None = None
    """The `BucketTarget` that replaces a shared output folder, where one does."""
    code_files: list[str] | None = None
    """What the study names as code."""
    run_needs: Needs | None = None
    """None: packages, weights and data are not looked for."""

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a server answers. `problems` are reasons not to start there."""

    problems: list[str]
    host: str
    boot_id: str
    now: float
    """Unix time of the server, in seconds."""
    version: str | None
    control: str
    """Digest of papergrid's own control plane."""
    source: str
    """Digest of the code that computes the numbers."""
    packages: dict[str, str]
    kind: str
    slots: list[str]
    notes: list[str]
    nonce: str
    """What the server wrote into the probe folder, in a file with its name; empty: nothing."""

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


def request_from_text(text: str) -> ProbeRequest:
    """Inverse of `ProbeRequest.to_text`. ValueError, TypeError for anything else."""
    fields_ = json.loads(text)
    needs = fields_.pop("run_needs", None)
    return ProbeRequest(**fields_, run_needs=Needs(**needs) if needs else None)


def result_from_text(text: str) -> ProbeResult | None:
    """Inverse of `ProbeResult.to_text`; None for anything else, as another version may answer."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    names = {each.name for each in fields(ProbeResult)}
    if not isinstance(document, dict) or document.keys() != names:
        return None
    return ProbeResult(**document)
