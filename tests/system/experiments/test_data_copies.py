"""`replicate data verify`, and the one look at the data before a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.commands import replicate
from support.fewshot_trees import PASCAL_VAL, make_coco, make_pascal

pytestmark = pytest.mark.system

TEXT = {"capture_output": True, "text": True}


def test_a_copy_is_verified_and_its_problems_end_the_command_with_their_code(tmp_path):
    make_coco(tmp_path / "COCO2014")
    words = ("data", "verify", "--datasets", "coco20i", "pascal5i", "--data-root", tmp_path)
    done = replicate(*words, "--deep", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "")
    assert "coco20i: 2 problems" in done.stdout
    assert "no PASCAL VOC2012" in done.stdout
    assert replicate(*words[:-2], cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (("--data-root", "nowhere"), ("pascal5i: ", "coco20i: ", "nowhere", "replicate prepare")),
        ((), ("pascal5i: ", "coco20i: ", "--data-root")),
        (("--datasets", "pascal5i", "--data-root", "."), ("pascal5i: ", "empty")),
    ],
)
def test_missing_data_ends_a_sweep_once_before_any_run(tmp_path, words, fragments):
    done = replicate(*words, "--output-dir", "../out", cwd=_folder(tmp_path / "here"))
    assert done.returncode == 2
    for fragment in fragments:
        assert fragment in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_listed_image_without_a_photograph_ends_a_sweep_before_any_run(tmp_path):
    root = make_pascal(tmp_path / "data")
    (root / "JPEGImages" / f"{PASCAL_VAL}.jpg").unlink()
    words = ("--datasets", "pascal5i", "--data-root", root, "--from-scratch")
    done = replicate(*words, "--output-dir", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert PASCAL_VAL in done.stderr
    assert not (tmp_path / "out").exists()


def test_prepare_only_makes_ready_or_says_what_is_missing_and_trains_nothing(tmp_path):
    root = make_pascal(tmp_path / "data")
    words = ("--prepare-only", "--cache-dir", "cache", "--output-dir", "out", "--data-root", root)
    done = replicate(*words, "--datasets", "pascal5i", cwd=tmp_path)
    assert (done.returncode, "pascal5i is ready" in done.stdout) == (0, True), done.stderr
    assert list((tmp_path / "cache" / "index").glob("pascal5i-*.npz"))
    done = replicate(*words, "--datasets", "coco20i", cwd=tmp_path)
    assert done.returncode == 2
    for fragment in ("train2014.zip", "http://images.cocodataset.org", "--download"):
        assert fragment in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_every_data_set_lacks_is_said_at_once(tmp_path):
    done = replicate("prepare", "--data-root", "data", cwd=tmp_path)
    assert done.returncode == 2
    for fragment in ("benchmark.tgz", "VOCtrainval_11-May-2012.tar", "train2014.zip"):
        assert fragment in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("verb", ["run", "prepare"])
def test_a_study_with_a_command_has_nothing_to_prepare(tmp_path, verb):
    study = {
        "name": "mine",
        "command": ["true"],
        "axes": {"rate": [1]},
        "metric": {"name": "loss", "goal": "min"},
        "average_over": "rate",
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    words = ("--prepare-only",) if verb == "run" else ()
    done = replicate(verb, "--study", "study.yaml", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing to prepare" in done.stderr


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
