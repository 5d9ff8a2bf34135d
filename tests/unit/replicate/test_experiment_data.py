"""Data is prepared by the module that a manifest names."""

from __future__ import annotations

import pytest
from support.studies import TOY_MANIFEST, write_experiment
from support.sweeps import make_sweep

from merge.errors import UsageError
from replicate.experiment_data import prepare_words, start

DATA = """
data:
  prepare: {module: prepare, words: {dataset: --datasets}}
"""


@pytest.fixture
def blobs(tmp_path, monkeypatch):
    """An experiment of one's own in the current folder, whose preparation ends with 5."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "blobs"
    folder.mkdir()
    (folder / "code.py").write_text("FOUND = 5\n")
    (tmp_path / "runpy.py").write_text("raise SystemExit('a file beside the folder is imported')")
    (folder / "prepare").mkdir()
    (folder / "prepare" / "__main__.py").write_text(
        "import sys\nfrom blobs.code import FOUND\nsys.exit(FOUND)\n"
    )
    return write_experiment(folder, manifest=TOY_MANIFEST + DATA)


def runs(experiment: str | None = "./blobs", **config: object):
    command = None if experiment else ("true",)
    return make_sweep(command, folds=2, experiment=experiment, config=config).runs


def test_a_folder_with_a_main_file_prepares_as_a_module_does(blobs):
    words = prepare_words(runs(dataset="a"))
    assert words[2:] == [str(blobs.parent), "blobs.prepare", "--datasets", "a"]
    assert start(words).returncode == 5


def test_a_module_of_papergrid_is_started_by_its_name():
    words = prepare_words(runs("fewshot", dataset="pascal5i", mask_variant="exact"))
    assert words[:2] == ["-m", "experiments.fewshot.prepare"]
    assert words[2:] == ["--datasets", "pascal5i", "--mask-variants", "exact"]


def test_a_study_of_a_command_has_nothing_to_prepare():
    with pytest.raises(UsageError, match="there is nothing to prepare"):
        prepare_words(runs(None))
