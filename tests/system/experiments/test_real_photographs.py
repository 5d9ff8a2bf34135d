"""The main job on real photographs: COCO-20i from a data root that is the dataset's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import replicate

from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.data, pytest.mark.timeout(600)]

CELL = "coco20i_efficientnet_lite0_1shot"


def test_four_folds_of_real_photographs_are_trained_and_merged(real_data, tmp_path):
    words = ("--datasets", "coco20i", "--backbones", "efficientnet_lite0", "--shots", "1")
    changes = {"epochs": 1, "image_size": 161, "test_episodes": 51, "method": "prototype"}
    small = (word for key, value in changes.items() for word in ("--set", f"{key}={value}"))
    before = _listing(real_data)
    done = replicate(
        "--data-root", real_data / "coco-mini", *words, *small, cwd=tmp_path, timeout_s=600
    )
    assert done.returncode == 0, done.stderr
    output = tmp_path / "outputs" / "abcb"
    cell = read_json(output / "replication_results.json")["results"][CELL]
    assert (cell["complete"], cell["folds"]) == (True, ["0", "1", "2", "3"])
    assert 0.1 < cell["mean"]["miou"] < 0.9
    assert "43.4" not in done.stdout  # a published number of another backbone is not shown
    for fold in range(4):
        details = read_json(output / CELL / f"fold{fold}" / "result.json")["details"]
        assert sum(details["final"]["counts"]["episodes"]) == 51
    assert _listing(real_data) == before
    # What is done needs no data: the finished sweep can be shown anywhere.
    small = (word for key, value in changes.items() for word in ("--set", f"{key}={value}"))
    again = replicate(*words, *small, cwd=tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("missing", ["annotations", "train2014", "everything"])
def test_a_data_root_that_lacks_a_part_is_refused_by_name(real_data, tmp_path, missing):
    root = tmp_path / "data"
    root.mkdir()
    for part in ("annotations", "train2014", "val2014"):
        if missing not in (part, "everything"):
            (root / part).symlink_to(real_data / "coco-mini" / part)
    done = replicate(
        *("--data-root", root, "--datasets", "coco20i", "--backbones", "efficientnet_lite0"),
        *("--shots", "1", "--folds", "0"),
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert str(root) in done.stderr
    assert ("COCO2014" if missing == "everything" else missing) in done.stderr
    assert "Traceback" not in done.stderr


def _listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))
