"""What the YAML files of an experiment declare, held against its code before a run trains.

The control plane reads only these files, so a difference would show in the results table.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.runtime.entry import NonFiniteError
from experiments.runtime.experiment import Experiment
from experiments.runtime.task import Selection
from experiments.runtime.write_options import options_yaml
from merge.errors import UsageError
from merge.wording import hint, listed

Entries = dict[str, dict[str, object]]
"""Options of an experiment by name, as options.yaml has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredMetrics:
    """The metrics in an experiment's `manifest.yaml`, and the one that the study shows."""

    manifest: Path
    goals: Mapping[str, str]
    shown: str | None
    """None where the run was not planned by a study."""

    def check_selection(self, selection: object) -> None:
        """UsageError unless it is a `Selection` of a declared metric, with its goal."""
        if not isinstance(selection, Selection):
            raise UsageError(
                "the task has no selection: write `selection = Selection(metric, goal)` into its "
                "class: the metric that chooses the best epoch"
            )
        self._check_names([selection.metric], "the task's selection names")
        goal = self.goals[selection.metric]
        if selection.goal != goal:
            raise UsageError(
                f"the task's selection takes the {selection.goal} of {selection.metric!r}, and "
                f"{self.manifest} says goal: {goal}: correct one of them"
            )

    def check(self, metrics: object, selection: Selection) -> dict[str, float]:
        """The metrics of an evaluation, if they are declared, complete and finite.

        UsageError: wrong names or types. NonFiniteError: one is NaN or infinite.
        """
        if not isinstance(metrics, dict):
            raise UsageError(f"metrics() must return a dict of numbers, not {metrics!r}")
        self._check_names(metrics, "metrics() returns")
        for name in filter(None, (selection.metric, self.shown)):
            if name not in metrics:
                raise UsageError(
                    f"metrics() does not return {name!r}, which "
                    f"{'chooses the best epoch' if name == selection.metric else 'the study shows'}"
                    f"; it returns {listed(map(str, metrics))}"
                )
        return {name: _finite(name, value) for name, value in metrics.items()}

    def _check_names(self, names: Collection[object], what: str) -> None:
        for name in names:
            if name not in self.goals:
                raise UsageError(
                    f"{what} {name!r}, which {self.manifest} does not declare"
                    f"{hint(str(name), self.goals)}"
                )


def read_declared_metrics(experiment: Experiment, shown: str | None) -> DeclaredMetrics:
    """The metrics of the experiment's manifest."""
    path = experiment.folder / "manifest.yaml"
    # All values as text: a metric may have a name that YAML 1.1 takes for true or false.
    document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    goals = {name: entry["goal"] for name, entry in document["metrics"].items()}
    return DeclaredMetrics(manifest=path, goals=goals, shown=shown)


def check_options_file(experiment: Experiment) -> None:
    """UsageError where options.yaml is older than the options.py that it was made from."""
    path = experiment.folder / "options.yaml"
    written, current = path.read_text(encoding="utf-8"), options_yaml(experiment.options_type)
    # Parsing takes a tenth of a second, and as a rule the texts are equal.
    if written != current and _is_older(_without_help(written), _without_help(current)):
        raise UsageError(
            f"{path} does not say what options.py beside it declares. Write it again, then plan "
            f"the study: python -m experiments.runtime.write_options {experiment.folder}/"
        )


def _finite(name: str, value: Any) -> float:  # noqa: ANN401
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"metric {name!r} must be a number, not {value!r}") from error
    if not math.isfinite(number):
        raise NonFiniteError(
            f"metric {name!r} is {number}: a result holds finite numbers only; correct what "
            "metrics() returns where nothing was counted"
        )
    return number


def _is_older(written: Entries, current: Entries) -> bool:
    """Whether a study could be planned otherwise than the run is trained."""
    # The runtime gets such options with a version of papergrid: no study that was planned by the
    # file gives a value to one, and no number depends on it.
    added = {
        name
        for name, entry in current.items()
        if name not in written and entry.get("decides_numbers") is False
    }
    return written != {name: entry for name, entry in current.items() if name not in added}


def _without_help(text: str) -> Entries:
    entries = yaml.safe_load(text)
    return {
        name: {key: value for key, value in entry.items() if key != "help"}
        for name, entry in entries.items()
    }
