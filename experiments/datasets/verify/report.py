"""Findings as text for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from experiments.datasets.verify.findings import EXIT_CODES, Findings
from merge.storage.json_files import Json


def document(findings: Findings) -> dict[str, Json]:
    """The findings of one data set as JSON."""
    return {
        "dataset": findings.dataset,
        "exit_code": findings.exit_code,
        "checked": dict(findings.checked),
        "problems_by_kind": dict(findings.totals),
        "problems": [asdict(problem) for problem in findings.kept],
    }


def lines(findings: Findings, advice: str) -> Iterator[str]:
    """The findings of one data set; `advice` ends them where there is a problem."""
    verdict = f"{findings.totals.total():,} problems" if findings.totals else "no problem"
    yield f"{findings.dataset}: {verdict}"
    for what, number in findings.checked.items():
        yield f"  {what:<20} {number:>7,}"
    for problem in findings.kept:
        yield f"  {problem.severity:<8} {problem.kind}: {problem.message}"
    for kind, number in findings.totals.items():
        if number > findings.limit:
            yield f"  and {number - findings.limit:,} more of the kind {kind!r} (--limit)"
    if findings.totals:
        yield f"  to mend it: {advice}"


def exit_code(found: Sequence[Findings]) -> int:
    """That of several data sets: what is wrong goes before what is missing."""
    codes = {findings.exit_code for findings in found}
    return next((code for code in (EXIT_CODES["wrong"], *codes) if code in codes and code), 0)
