"""What `Annotated` says about an option, beside its type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the largest value of a number; of each item of a list."""

    least: float | None = None
    largest: float | None = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """What stands before the names of a group."""

    text: str


@dataclass(frozen=True, slots=True)
class DecidesNoNumber:
    """No result depends on the option: it is in no configuration's hash."""


FREE = DecidesNoNumber()


@dataclass(frozen=True, slots=True)
class DecidesTests:
    """What a finished training may be tested under anew: `replicate evaluate` may change it."""


TESTS = DecidesTests()
