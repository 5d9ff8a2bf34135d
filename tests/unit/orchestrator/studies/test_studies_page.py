"""The reference page of the study file shows what really loads."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from pathlib import Path

import pytest

from orchestrator.plan.selection import select
from orchestrator.studies.experiment import read_experiment
from orchestrator.studies.grid import expand
from orchestrator.studies.load import load_study
from orchestrator.studies.manifest_schema import (
    ComparabilityEntry,
    DataEntry,
    ManifestShape,
    MetricEntry,
    ReportEntry,
)
from orchestrator.studies.options import read_options
from orchestrator.studies.published import read_published
from orchestrator.studies.schema import ResourcesShape, StudyShape
from replicate.catalogue import built_in_studies
from replicate.cli.arguments import add_study


@pytest.fixture
def examples(repository: Path, tmp_path: Path) -> list[Path]:
    """The page's YAML blocks, each as a file."""
    page = (repository / "docs" / "studies.md").read_text("utf-8")
    files = []
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)):
        files.append(tmp_path / f"example{number}.yaml")
        files[-1].write_text(block)
    return files


def test_the_examples_load(repository: Path, examples: list[Path], tmp_path: Path) -> None:
    nets_file, rates_file, published_file, _, _, options_file = examples
    (tmp_path / "losses.py").touch()
    (tmp_path / "tools").mkdir()
    nets = load_study(nets_file, published_folders=(repository / "replicate" / "published",))
    assert len(select(expand(nets), nets.axes, {})) == 16
    assert len(expand(nets)) == 20
    assert len(expand(load_study(rates_file))) == 9
    assert set(read_published(published_file).methods) == {"ABCB"}
    (tmp_path / "shown").mkdir()
    options_file.rename(tmp_path / "shown" / "options.yaml")
    assert set(read_options(tmp_path, "shown").by_name) == {"epochs", "method", "sizes"}


def test_the_manifest_on_the_page_is_a_sound_one_and_shows_every_key(
    examples: list[Path], tmp_path: Path
) -> None:
    own_file, manifest_file, options_file = examples[-3:]
    assert own_file.read_text() == "experiment: ./blobs\n"
    folder = tmp_path / "blobs"
    folder.mkdir()
    for module in ("prepare", "check"):
        (folder / f"{module}.py").touch()
    text = manifest_file.read_text()
    manifest_file.rename(folder / "manifest.yaml")
    options_file.rename(folder / "options.yaml")
    experiment = read_experiment("./blobs", cwd=tmp_path)
    assert experiment.manifest.metric("kld").goal == "min"
    for shape in (ManifestShape, MetricEntry, ComparabilityEntry, DataEntry, ReportEntry):
        for key in shape.model_fields:
            assert re.search(rf"\b{key}:", text), key


def test_every_built_in_study_is_named(repository: Path) -> None:
    page = (repository / "docs" / "studies.md").read_text("utf-8")
    parser = ArgumentParser()
    add_study(parser)
    for name in built_in_studies():
        assert f"`{name}`" in page.partition("## ")[0]
        assert re.search(rf"\b{name}\b", parser.format_help())


def test_the_first_example_shows_every_key(examples: list[Path]) -> None:
    text = examples[0].read_text()
    for key in [*StudyShape.model_fields, *ResourcesShape.model_fields]:
        assert re.search(rf"\b{key}:", text), key
