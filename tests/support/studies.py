"""Study files for tests, and an experiment `toy` to check them against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator.studies.load import load_study
from orchestrator.studies.study import Study

TOY_OPTIONS = """\
dataset: {type: str, default: a, choices: [a, b], help: "d"}
shot: {type: int, default: 1, min: 1, max: 10, help: "s"}
fold: {type: int, default: 0, min: 0, max: 3, help: "f"}
lr: {type: float, default: 0.1, min: 0, help: "l"}
epochs: {type: int, default: 50, min: 1, help: "e"}
flip: {type: bool, default: true, help: "f"}
amp: {type: str, default: auto, choices: [auto, "off"], help: "a"}
global_batch: {type: int, default: 16, min: 1, help: "g"}
sizes: {type: "list[int]", default: [32, 64], min: 8, help: "s"}
"""

TOY_MANIFEST = """\
title: A toy
metrics:
  miou: {unit: percent, goal: max, help: "m"}
  nss: {goal: max, help: "a number without a unit"}
baseline: {label: untrained, details: untrained}
repeats: [fold, seed]
"""

TOY = """\
name: toy
experiment: toy
axes:
  dataset: {values: [a], also: [b]}
  shot: [1, 5]
  fold: [0, 1, 2, 3]
average_over: fold
metric: miou
cell: "{dataset}_{shot}shot"
run_path: "{cell}/fold{fold}"
"""
"""8 runs in its table, 8 more by `also`."""

COMMAND = """\
name: plain
command: [bash, train.sh, "{lr}"]
axes:
  lr: [1e-4, 1e-2]
  seed: [0, 1, 2]
average_over: seed
metric: {name: loss, goal: min}
"""


def write_study(folder: Path, text: str, name: str = "study.yaml") -> Path:
    """Write a study file, with the experiment `toy` in the folder `experiments` beside it."""
    write_experiment(folder / "experiments" / "toy")
    (folder / "experiments" / "runtime").mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def write_experiment(
    folder: Path, *, options: str = TOY_OPTIONS, manifest: str = TOY_MANIFEST
) -> Path:
    """Write the files of an experiment that a study is checked against; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.yaml").write_text(options)
    (folder / "manifest.yaml").write_text(manifest)
    return folder


def study_of(
    folder: Path, text: str, settings: Mapping[str, str] | None = None, *, debug: bool = False
) -> Study:
    """The study that `text` describes."""
    path = write_study(folder, text)
    return load_study(
        path,
        settings=settings,
        debug=debug,
        published_folders=(folder / "published",),
        experiments=folder / "experiments",
    )
