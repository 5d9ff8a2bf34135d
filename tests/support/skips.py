"""What was skipped, in one line for each suite: `SKIPPED [38 tests] SLURM: sbatch not installed`.

A reason is `SUITE: why`. pytest's own lines would name each place and each file that skips, and
`.ci/run` reads these: they start with SKIPPED, and are never coloured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    lines = skip_lines(_reason(report) for report in skipped)
    if lines:
        terminalreporter.section("suites that did not run")
    for line in lines:
        terminalreporter.write_line(line)


def skip_lines(reasons: Iterable[str]) -> list[str]:
    """One line for each suite, in alphabetical order, with all of its different reasons."""
    suites: dict[str, Counter[str]] = {}
    for reason in reasons:
        suite, _, why = reason.partition(": ")
        suites.setdefault(suite, Counter())[why] += 1
    return [
        f"SKIPPED [{whys.total()} tests] {suite}: {'; '.join(whys)}".removesuffix(": ")
        for suite, whys in sorted(suites.items())
    ]


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    # A skip's longrepr is (path, line, "Skipped: reason"); xdist sends it as a list.
    longrepr = report.longrepr
    text = str(longrepr[2]) if isinstance(longrepr, tuple | list) else str(longrepr)
    # A reason of several lines, such as what a program printed, must stay one line.
    return " ".join(text.removeprefix("Skipped: ").split())
