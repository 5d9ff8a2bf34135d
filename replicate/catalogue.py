"""The files that come with papergrid: studies, published numbers, actions on data sets.

An experiment may have a file `actions.json`: the actions that it adds to `replicate data`, each
with a module of its folder, the flags that are handed on, and the form of the table in which the
module's JSON is shown. Actions of one name in several experiments are one command, where each names
its "datasets". It is JSON, not YAML, so that `replicate data --help` loads no library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from merge.errors import StudyError, UsageError
from merge.wording import hint

STUDIES = Path(__file__).parent / "studies"
PUBLISHED = Path(__file__).parent / "published"
PROFILES = Path(__file__).parent / "profiles"

_EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
_ACTIONS_FILE = "actions.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFlag:
    """A flag that is handed on to an action's module."""

    help: str = ""
    metavar: str | None = None
    needed: bool = False
    many: bool = False
    """Takes several values, separated by spaces or commas."""
    switch: bool = False
    """Takes no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTable:
    """How the JSON that a module prints is shown."""

    rows: str
    """Key of the list of rows."""
    columns: tuple[str, ...]
    heading: str
    """Template above the items of a row."""
    items: str
    """Key of a row's list of items."""
    item: str
    """Template of an item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAction:
    """An action of `replicate data`."""

    experiment: str
    module: str
    """Of the experiment's folder."""
    help: str
    flags: Mapping[str, ActionFlag] = field(default_factory=dict)
    data_root: Literal["needed", "optional", "none"] = "none"
    has_cache: bool = False
    table: ActionTable | None = None
    """None: the module prints for people itself."""
    datasets: tuple[str, ...] = ()
    """Values of its flag `datasets`. With them, several experiments may use one name."""
    parts: tuple[DataAction, ...] = ()
    """The actions of all experiments that use this name; empty for one alone."""

    def for_datasets(self, names: Sequence[str]) -> DataAction:
        """The part that knows all of `names`.

        UsageError: one is unknown, or they belong to several experiments.
        """
        owners = {name: part for part in self.parts for name in part.datasets}
        for name in names:
            if name not in owners:
                raise UsageError(
                    f"--datasets {name}: there is no such data set{hint(name, owners)}"
                )
        found = {owners[name].experiment: owners[name] for name in names}
        if len(found) > 1:
            raise UsageError(
                f"--datasets {' '.join(names)}: these belong to the experiments "
                f"{' and '.join(found)}; give a command for the data sets of each"
            )
        return next(iter(found.values()))


def built_in_studies() -> list[str]:
    """Names of the built-in studies, sorted."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def find_study(reference: str | Path) -> Path:
    """The file of a study, by built-in name or path. UsageError says which names there are."""
    text = str(reference)
    # Before the path: a file `abcb` in the current folder must not change what the default command
    # trains.
    if text in built_in_studies():
        return STUDIES / f"{text}.yaml"
    path = Path(reference)
    if path.is_file():
        return path
    what = "is a folder, not a study file" if path.is_dir() else "is neither a study nor a file"
    raise UsageError(f"{text!r} {what}; built-in studies: {', '.join(built_in_studies())}")


def find_profile(reference: str | Path) -> Path:
    """The file of a profile, by built-in name or path. UsageError names those there are."""
    names = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if str(reference) in names:
        return PROFILES / f"{reference}.yaml"
    path = Path(reference)
    if path.is_file():
        return path
    raise UsageError(
        f"--profile {str(reference)!r} is neither a profile nor a file{hint(str(reference), names)}"
    )


def data_actions(experiments: Path = _EXPERIMENTS) -> dict[str, DataAction]:
    """The actions of all experiments by name.

    StudyError for a wrong file, or for a name used twice without the data sets of each.
    """
    actions: dict[str, DataAction] = {}
    for path in sorted(experiments.glob(f"*/{_ACTIONS_FILE}")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            found = {name: _action(path.parent.name, each) for name, each in document.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"it is not a valid file of actions ({type(error).__name__}: {error})"
            raise StudyError(str(path), (problem,)) from error
        # Actions of all experiments share one command, so their names do too.
        for name, action in found.items():
            actions[name] = (
                _joined(name, actions[name], action, path) if name in actions else action
            )
    return actions


def _joined(name: str, first: DataAction, second: DataAction, path: Path) -> DataAction:
    """One action for the data sets of both, with the flags of both."""
    parts = (*(first.parts or (first,)), second)
    each = [dataset for part in parts for dataset in part.datasets]
    if not all(part.datasets for part in parts) or len(set(each)) < len(each):
        problem = f"experiment {first.experiment!r} has an action {name!r} too"
        raise StudyError(
            str(path),
            (f'{problem}: rename one of them, or give each its own "datasets"',),
        )
    flags = {key: flag for part in parts for key, flag in part.flags.items()}
    flags["datasets"] = replace(flags["datasets"], help=", ".join(each))
    return replace(first, flags=flags, datasets=tuple(each), parts=parts)


def _action(experiment: str, document: Mapping[str, Any]) -> DataAction:
    fields = dict(document)
    flags = {name: ActionFlag(**flag) for name, flag in fields.pop("flags", {}).items()}
    table = fields.pop("table", None)
    return DataAction(
        experiment=experiment,
        flags=flags,
        table=table and ActionTable(**{**table, "columns": tuple(table["columns"])}),
        datasets=tuple(fields.pop("datasets", ())),
        **fields,
    )
