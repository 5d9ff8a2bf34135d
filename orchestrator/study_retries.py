"""The `retries:` of a study file: how often which kind of failure is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.notes import Notes
from orchestrator.retries import DEFAULT_RULES, NEVER
from orchestrator.suggest import hint

_FIELDS = {"limit": int, "wait_s": (int, float)}


def check_retries(given: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """The rules that fit, as `retries.read_policy` takes them; problems go to `notes`."""
    return {
        name: value
        for name, value in given.items()
        if _is_known(name, notes) and _fits(name, value, notes)
    }


def _is_known(name: str, notes: Notes) -> bool:
    names = [cause.value for cause in DEFAULT_RULES]
    if name in (*names, "max"):
        return True
    if name in [cause.value for cause in NEVER]:
        notes.add(("retries", name), "a second attempt would end like the first", at_key=True)
    else:
        notes.add(
            ("retries", name), f"is no kind of failure{hint(name, ['max', *names])}", at_key=True
        )
    return False


def _fits(name: str, value: object, notes: Notes) -> bool:
    if _is_number(value, int):
        return True
    if not isinstance(value, dict) or name == "max":
        notes.add(("retries", name), f"must be how many more attempts, 0 or more, not {value!r}")
        return False
    problems = [key for key, part in value.items() if not _is_number(part, _FIELDS.get(key, ()))]
    for key in problems:
        known = "0 or more" if key in _FIELDS else "unknown: there are limit and wait_s"
        notes.add(("retries", name, key), f"must be {known}" if key in _FIELDS else known)
    return not problems


def _is_number(value: object, kind: Any) -> bool:  # noqa: ANN401
    return isinstance(value, kind) and not isinstance(value, bool) and 0 <= value <= 10**9
