"""Whether two records of a code version are of code that makes the same numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CODE_KEYS = ("source", "version", "git_commit", "git_dirty", "git_diff")
"""What a merged view keeps of a code version."""


def is_same_code(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether numbers made by `one` and `other` may be mixed.

    A commit alone is no difference where a digest of the sources is known: it may have changed
    nothing that computes numbers. Uncommitted changes are compared within one commit: committing
    them changes no code.
    """
    if one.get("version") != other.get("version") or one.get("source") != other.get("source"):
        return False
    if one.get("git_commit") == other.get("git_commit"):
        return one.get("git_diff") == other.get("git_diff")
    return one.get("source") is not None


def code_text(code: Mapping[str, Any]) -> str:
    """`source 1f2e..., commit 83e2010a with uncommitted changes 9a8b...`."""
    source, version = code.get("source"), code.get("version")
    words = [f"source {source or 'not recorded'}"]
    words += [f"papergrid {version}"] if version else []
    if commit := code.get("git_commit"):
        words.append(f"commit {str(commit)[:12]}{changes_text(code)}")
    return ", ".join(words)


def changes_text(code: Mapping[str, Any]) -> str:
    """` with uncommitted changes 9a8b...`; empty where the code is as it was committed."""
    if not code.get("git_dirty"):
        return ""
    diff = code.get("git_diff")
    return f" with uncommitted changes{f' {diff}' if diff else ''}"
