"""What a report says about the code behind its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.grids import make_grid, write_result, write_sweep

from merge.results.view import rebuild_with_results
from replicate.report.facts import provenance
from replicate.report.forms import html_report, markdown_report
from replicate.report.gather import read_report

CLEAN = {"source": "s1", "git_commit": "abc", "git_dirty": False, "git_diff": None}
DIRTY = {"source": "s2", "git_commit": "abc", "git_dirty": True, "git_diff": "d1"}


def test_uncommitted_changes_and_the_code_of_earlier_attempts_are_told(tmp_path: Path) -> None:
    sweep = replace(make_grid(folds=(0, 1)), code=DIRTY)
    write_sweep(tmp_path, sweep)
    first, second = sweep.runs
    write_result(tmp_path, first, 0.5, code=CLEAN)
    earlier = [{"attempts": [1, 2], **CLEAN}]
    write_result(tmp_path, second, 0.5, code=DIRTY, attempt=3, earlier_code=earlier)
    report = read_report(tmp_path, *rebuild_with_results(tmp_path))
    lines = provenance(report)
    assert "code source: s1, s2" in lines
    assert "code git_commit: abc, abc with uncommitted changes d1" in lines
    assert f"code of attempt 1, 2 of {second.run_id}: source s1, commit abc" in lines
    assert "planned with commit: abc with uncommitted changes d1" in lines
    for text in (markdown_report(report), html_report(report)):
        assert "code of attempts" in text
        assert "uncommitted changes d1" in text
