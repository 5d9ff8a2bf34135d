"""The demo, as `make demo` runs it: eight real trainings of two ranks each, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from support.browser import browser, open_page
from support.commands import replicate

from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

CELLS = tuple(
    f"shapes5i_efficientnet_{name}shot" for name in ("lite0_1", "lite0_5", "lite1_1", "lite2_1")
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """Output folder and standard output of the demo."""
    folder = tmp_path_factory.mktemp("demo")
    done = replicate("--study", "demo", "--output-dir", "out", cwd=folder, timeout_s=900)
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def test_the_demo_learns_in_every_cell_and_leaves_table_report_and_panels(demo):
    output, printed = demo
    merged = read_json(output / "replication_results.json")["results"]
    for cell in CELLS:
        assert merged[cell]["complete"]
        assert merged[cell]["mean"]["miou"] > merged[cell]["untrained"]["miou"] + 0.15
        for fold in range(2):
            result = read_json(output / cell / f"fold{fold}" / "result.json")
            assert result["details"]["world_size"] == 2
            assert result["metrics"]["miou"] > result["details"]["untrained"]["miou"] + 0.1
            with Image.open(output / cell / f"fold{fold}" / "panels" / "test.png") as panels:
                assert panels.width > panels.height / 2 > 100
    assert all(cell in printed and cell in (output / "report.md").read_text() for cell in CELLS)
    assert "replicate status out" in printed
    assert "report.html" in printed


def test_a_browser_shows_the_merged_numbers_and_sends_no_request(demo):
    output, _ = demo
    merged = read_json(output / "replication_results.json")["results"]
    with browser() as driver:
        page = open_page(driver, output / "report.html")
        dark = open_page(driver, output / "report.html", scheme="dark")
    assert page.console == dark.console == []
    assert all(url.startswith(("file:", "data:")) for url in page.requests), page.requests
    for cell in CELLS:
        for column in ("0", "1", "mean", "std"):
            value = merged[cell][column]["miou"]
            assert page.values[cell, column] == value
            assert page.shown[cell, column] == f"{100 * value:.1f}"
    assert page.widths[0] <= page.widths[1]
    assert (dark.ink, dark.paper) != (page.ink, page.paper)
    assert dark.values == page.values
