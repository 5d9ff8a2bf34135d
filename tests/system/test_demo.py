"""The demo, as `make demo` runs it: eight real trainings of two ranks each."""

from __future__ import annotations

import pytest
from PIL import Image
from support.commands import replicate

from merge.files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

CELLS = ("shapes5i_efficientnet_lite0_1shot", "shapes5i_efficientnet_lite0_5shot")


def test_the_demo_learns_in_every_cell_and_leaves_table_report_and_panels(tmp_path):
    done = replicate("--study", "demo", "--output-dir", "out", cwd=tmp_path, timeout_s=900)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "out"
    merged = read_json(output / "replication_results.json")["results"]
    for cell in CELLS:
        assert merged[cell]["complete"]
        assert merged[cell]["mean"]["miou"] > merged[cell]["untrained"]["miou"] + 0.15
        for fold in range(4):
            result = read_json(output / cell / f"fold{fold}" / "result.json")
            assert result["details"]["world_size"] == 2
            assert result["metrics"]["miou"] > result["details"]["untrained"]["miou"] + 0.1
            with Image.open(output / cell / f"fold{fold}" / "panels" / "test.png") as panels:
                assert panels.width > panels.height / 2 > 100
    assert all(cell in done.stdout and cell in (output / "report.md").read_text() for cell in CELLS)
    assert "replicate status out" in done.stdout
