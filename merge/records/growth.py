"""How a plan changed after it was first written: one entry for each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from merge.records.short_repr import ShortRepr


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Growth(ShortRepr):
    """One time that a plan got more runs, or another title or other published numbers."""

    at: float
    """Unix time, in seconds."""
    by: str
    """Name of the user."""
    host: str
    runs: tuple[str, ...] = ()
    """Ids of the runs that were added."""
    changed: tuple[str, ...] = ()
    """What else changed, on which no number depends: title, published, axes (their order)."""
    source: str = ""
    """The study file, or the place that the larger plan came from."""
    study: str = ""
    """The study file's text."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What `--set` changed, as given."""
    filters: Mapping[str, Any] = field(default_factory=dict)
    """Axis -> the texts of its selected values: which runs that command was to train."""
    code: Mapping[str, Any] = field(default_factory=dict)
    """The version of the code that planned the added runs."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def growth_from_json(document: Mapping[str, Any]) -> Growth:
    """The entry that `to_json` wrote. KeyError, TypeError... where `document` is none."""
    fields = {**document, "runs": tuple(document["runs"]), "changed": tuple(document["changed"])}
    return Growth(**{name: fields[name] for name in Growth.__slots__ if name in fields})
