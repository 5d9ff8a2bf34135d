"""shapes5i on disk: made once, whole, the same bytes each time, whoever is killed."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.system

BUILD = """
import sys
from pathlib import Path
from experiments.datasets.shapes import ensure_shapes5i
print(ensure_shapes5i(Path(sys.argv[1])))
"""


def start_builder(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(builder: subprocess.Popen[str]) -> Path:
    output, _ = builder.communicate(timeout=100)
    assert builder.returncode == 0
    return Path(output.strip())


def digest(root: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """What three processes that start at once leave."""
    folder = tmp_path_factory.mktemp("cache")
    roots = {finish(builder) for builder in [start_builder(folder) for _ in range(3)]}
    assert len(roots) == 1
    return roots.pop()


def test_processes_that_start_at_once_make_one_whole_data_set(dataset):
    names = {
        split: (dataset / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        for split in ("train", "val")
    }
    assert {split: len(listed) for split, listed in names.items()} == {"train": 270, "val": 108}
    listed = {name for part in names.values() for name in part}
    assert {path.stem for path in (dataset / "JPEGImages").glob("*.jpg")} == listed
    assert {path.stem for path in (dataset / "SegmentationClassAug").glob("*.png")} == listed
    others = [path.name for path in dataset.parent.iterdir() if not path.name.endswith(".lock")]
    assert others == [dataset.name]


def test_a_builder_that_is_killed_leaves_nothing_that_is_ever_used(dataset, tmp_path):
    builder = start_builder(tmp_path)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".*/JPEGImages/*.jpg"))) < 20:
        assert builder.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert not (tmp_path / dataset.name).exists()
    assert digest(finish(start_builder(tmp_path))) == digest(dataset)
    assert {path.name for path in tmp_path.iterdir()} <= {dataset.name, f".{dataset.name}.lock"}


def test_every_class_of_val_has_at_least_six_images_with_an_object_that_counts(dataset):
    num_images = np.zeros(256, int)
    for path in (dataset / "SegmentationClassAug").glob("val_*.png"):
        with Image.open(path) as mask:
            num_images += np.bincount(np.asarray(mask).ravel(), minlength=256) >= 2048
    assert num_images[1:21].min() >= 6
