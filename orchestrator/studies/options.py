"""The options of an experiment as its `options.yaml` declares them, with places in the file.

The trainer is not imported: the file is generated from its dataclass. It holds one entry for each
option, and each has a default:

    epochs: {type: int, default: 50, min: 1, help: "passes over the training images"}
    method: {type: str, default: prototype, choices: [prototype, abcb], help: "..."}

A type is int, float, bool, str, or a list of one of them (`list[int]`), whose items are each held
to choices, min and max. `decides_numbers: false` marks an option on which no result depends, such
as how often a checkpoint is written: it may change under a sweep that has begun.
`test_setting: true` marks one that `replicate evaluate` may change after the training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from merge.errors import StudyError
from merge.records.options import Option, Options, UnfitError, UnknownKeyError, option_from_entry
from merge.records.values import ConfigValue
from orchestrator.config.schema import Shape, fit
from orchestrator.config.yaml_document import Document, Problem, as_lines, read_document

__all__ = [
    "EXPERIMENTS",
    "OPTIONS_FILE",
    "Options",
    "UnfitError",
    "UnknownKeyError",
    "read_options",
]

OPTIONS_FILE = "options.yaml"

EXPERIMENTS = Path(__file__).resolve().parent.parent.parent / "experiments"
"""The data plane's folder: its files are read, it is never imported."""


def read_options(experiments: Path, experiment: str) -> Options:
    """The options of `experiment`. StudyError, with all problems, where its file is wrong."""
    document = read_document(experiments / experiment / OPTIONS_FILE)
    problems = list(document.problems)
    options: dict[str, Option] = {}
    defaults: dict[str, ConfigValue] = {}
    for name, data in document.data.items():
        entry, unfit = fit(document, _Entry, data, (name,))
        problems += unfit
        try:
            options[name] = option_from_entry(entry.model_dump())
            defaults[name] = options[name].fitted(entry.default)
        except UnfitError as error:
            problems.append(_entry_problem(document, name, error))
    if problems:
        raise StudyError(str(document.path), as_lines(problems))
    return Options(experiment=experiment, by_name=options, defaults=defaults)


class _Entry(Shape):
    type: str = ""
    default: Any = None
    choices: list[Any] = Field(default_factory=list)
    min: int | float | None = None
    max: int | float | None = None
    decides_numbers: bool = True
    test_setting: bool = False
    help: str = ""


def _entry_problem(document: Document, name: str, error: UnfitError) -> Problem:
    return document.problem((name,), f"type or default: {error}", at_key=True)
