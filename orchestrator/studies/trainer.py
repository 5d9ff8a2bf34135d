"""The trainer of a study: rules of its configurations, and the manifest that its plan freezes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from merge.errors import StudyError
from merge.records.manifest import Manifest, default_manifest
from merge.records.metrics import NUMBER, Metric, range_text, suggests_lower_is_better
from merge.wording import hint
from orchestrator.config.yaml_document import Notes
from orchestrator.studies.experiment import (
    Experiment,
    check_module_name,
    experiment_folder,
    read_experiment,
    spelled,
)
from orchestrator.studies.options import read_options
from orchestrator.studies.rules import FreeRules, Rules
from orchestrator.studies.schema import MetricShape, StudyShape


@dataclass(frozen=True, slots=True)
class Trainer:
    """What is known of the experiment or the command that a study trains with."""

    rules: Rules
    manifest: Manifest


def trainer_of(shape: StudyShape, experiments: Path, cwd: Path | None, notes: Notes) -> Trainer:
    """What the study in `shape` trains with; problems go to `notes`."""
    experiment = _experiment(shape, experiments, cwd, notes)
    return Trainer(rules=_rules(experiment, notes), manifest=_manifest(shape, experiment, notes))


def _experiment(
    shape: StudyShape, experiments: Path, cwd: Path | None, notes: Notes
) -> Experiment | None:
    # With both given, the study has one problem already: neither is looked into.
    if shape.experiment is None or shape.command is not None:
        return None
    reference = spelled(shape.experiment)
    try:
        experiment_folder(reference, experiments, cwd)
    except StudyError as error:
        notes.add(("experiment",), error.problems[0])
        return None
    try:
        experiment = read_experiment(reference, experiments, cwd)
    except StudyError as error:
        notes.add_elsewhere(error)
        return None
    try:
        check_module_name(experiment)
    except StudyError as error:
        notes.add(("experiment",), error.problems[0])
    return experiment


def _rules(experiment: Experiment | None, notes: Notes) -> Rules:
    if experiment is None:
        # For a command. An experiment that cannot be read takes any key, too: its own problem is in
        # the list, and an unknown option for each key would hide it.
        return FreeRules()
    try:
        return read_options(experiment.folder.parent, experiment.folder.name)
    except StudyError as error:
        notes.add_elsewhere(error)
        return FreeRules()


def _manifest(shape: StudyShape, experiment: Experiment | None, notes: Notes) -> Manifest:
    """What the plan freezes; of a command only its metric is known, by what the study says."""
    wanted = shape.metric
    if experiment is None:
        _ask_for_goal(wanted, notes)
        unit = wanted.unit or NUMBER
        return default_manifest(wanted.name, wanted.goal or "max", unit, wanted.range)
    known = {metric.name: metric for metric in experiment.manifest.metrics}
    if wanted.name in known:
        _check_metric(wanted, known[wanted.name], notes)
    elif wanted.name:
        notes.add(
            ("metric",),
            f"experiment {experiment.name!r} has no metric {wanted.name!r}"
            f"{hint(wanted.name, known)}",
        )
    return experiment.manifest


def _ask_for_goal(wanted: MetricShape, notes: Notes) -> None:
    # Without a goal the larger number is the better one: for a loss the worst run would be best.
    if wanted.goal is None and suggests_lower_is_better(wanted.name):
        notes.add(
            ("metric",),
            f"{wanted.name!r} sounds like a metric that is better where it is lower: say which, "
            f"`metric: {{name: {wanted.name}, goal: min}}`, or goal: max",
        )


def _check_metric(wanted: MetricShape, declared: Metric, notes: Notes) -> None:
    # A study may repeat what the manifest says, but not contradict it: merges use the manifest's.
    for key in ("goal", "unit"):
        given, known = getattr(wanted, key), getattr(declared, key)
        if given not in (None, known):
            _refuse_other(key, known, given, notes)
    if wanted.range not in (None, declared.limits):
        given, known = range_text(wanted.range or declared.limits), range_text(declared.limits)
        _refuse_other("range", known, given, notes)


def _refuse_other(key: str, known: str, given: str, notes: Notes) -> None:
    notes.add(
        ("metric", key), f"the experiment's manifest says {key} {known}, not {given}: leave it out"
    )
