"""The frozen plan of a sweep: its axes and every run with its resolved configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merge.errors import RecordError, UnreadableError
from merge.records.checkpoints import Checkpoint, checkpoint_from_json
from merge.records.config_hash import REPAIR, free_keys_of
from merge.records.growth import Growth, growth_from_json
from merge.records.manifest import Manifest, default_manifest, manifest_from_json
from merge.records.metrics import NUMBER, PERCENT, Goal
from merge.records.plan_checks import check_plan
from merge.records.resources import DeviceKind, Resources, resources_from_json, resources_to_json
from merge.records.short_repr import ShortRepr
from merge.storage.json_files import read_json

__all__ = [
    "SCHEMA",
    "Axis",
    "DeviceKind",
    "Resources",
    "Run",
    "Sweep",
    "Value",
    "read_sweep",
    "refuse_foreign_schema",
    "run_to_json",
    "sweep_from_json",
]

SCHEMA = 1

Value = str | int | float | bool
"""A value of an axis."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Axis(ShortRepr):
    """One dimension of the grid."""

    name: str
    values: tuple[Value, ...]
    """The values of the table: what runs when no filter is given."""
    also: tuple[Value, ...] = ()
    """Further values that a filter may name; not part of the table."""

    @property
    def choices(self) -> tuple[Value, ...]:
        return self.values + self.also


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Run(ShortRepr):
    """One grid point."""

    run_id: str
    path: str
    """Folder below the output folder, with `/`."""
    cell: str
    """The cell of the table: the run's axes without the averaged one."""
    axes: Mapping[str, Value]
    config: Mapping[str, Any]
    """Axes, fixed values, overrides: all that a trainer is given."""
    config_hash: str
    experiment: str | None = None
    command: tuple[str, ...] | None = None
    resources: Resources = field(default_factory=Resources)
    in_table: bool = True
    checkpoint: Checkpoint | None = None
    """What the run evaluates; None for a run that trains."""

    @property
    def is_ready(self) -> bool:
        """Whether it can be started: an evaluation waits for the end of its training."""
        return self.checkpoint is None or self.checkpoint.is_ready

    def to_spec(self, sweep: Sweep) -> dict[str, Any]:
        """The content of `run.json`: what a trainer is given to read."""
        spec = {
            "schema": SCHEMA,
            "study": sweep.study,
            "run_id": self.run_id,
            "path": self.path,
            "cell": self.cell,
            "axes": dict(self.axes),
            "experiment": self.experiment,
            "command": list(self.command) if self.command else None,
            "config": dict(self.config),
            "config_hash": self.config_hash,
            "metric": sweep.metric,
        }
        return _with_checkpoint(spec, self)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sweep(ShortRepr):
    """One study being run: what `sweep.json` holds."""

    study: str
    title: str
    axes: tuple[Axis, ...]
    average_over: str
    metric: str
    goal: Goal
    settings: Mapping[str, Value]
    """What `--set` changed, as given."""
    runs: tuple[Run, ...]
    code: Mapping[str, Any]
    """The version of the code that made the plan."""
    published: Mapping[str, Any] = field(default_factory=dict)
    """Published numbers by cell: {"source": ..., "cells": {cell: {"mean": .., "0": ..}}}."""
    free_keys: tuple[str, ...] = ()
    """Keys of a configuration on which no number depends: they are in no hash."""
    retries: Mapping[str, Any] = field(default_factory=dict)
    """How often a failed run is retried, by cause: {cause: limit or {"limit", "wait_s"}}."""
    code_files: tuple[str, ...] | None = None
    """What the study names as code, seen from where runs are started; None where it does not."""
    growth: tuple[Growth, ...] = ()
    """How the plan changed since it was first written, oldest first."""
    frozen_manifest: Manifest | None = None
    """As the plan froze it; None in a plan of an older version. Readers take `manifest`."""
    manifest: Manifest = field(init=False, compare=False)
    """What is known of the experiment or command whose results these are."""

    def __post_init__(self) -> None:
        # Once, not as a property: readers ask for each run, and an older plan looks at all runs.
        found = self.frozen_manifest or self._manifest_of_older_plan()
        object.__setattr__(self, "manifest", found)

    def _manifest_of_older_plan(self) -> Manifest:
        # Plans without a manifest showed the metrics of our own trainers in percent.
        is_ours = all(run.experiment is not None for run in self.runs)
        return default_manifest(self.metric, self.goal, PERCENT if is_ours else NUMBER)

    def free_keys_of(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys of a run's configuration on which no number depends."""
        return free_keys_of(config, self.free_keys, self.manifest)

    def axis(self, name: str) -> Axis:
        """The axis `name`; KeyError where there is none."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise KeyError(name)

    def to_json(self, *, with_runs: bool = True) -> dict[str, Any]:
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "study": self.study,
            "title": self.title,
            "average_over": self.average_over,
            "metric": self.metric,
            "goal": self.goal,
            "axes": [
                {"name": a.name, "values": list(a.values), "also": list(a.also)} for a in self.axes
            ],
            "settings": dict(self.settings),
            "code": dict(self.code),
            "published": dict(self.published),
            "retries": dict(self.retries),
            "free_keys": list(self.free_keys),
        }
        if self.code_files is not None:
            document["code_files"] = list(self.code_files)
        if self.frozen_manifest is not None:
            document["manifest"] = self.frozen_manifest.to_json()
        if self.growth:
            document["growth"] = [growth.to_json() for growth in self.growth]
        return {**document, "runs": [run_to_json(r) for r in self.runs]} if with_runs else document


def read_sweep(path: Path) -> Sweep:
    """The plan in `path`. FileNotFoundError where there is none, RecordError where unreadable."""
    try:
        document = read_json(path)
    except UnreadableError:
        raise
    except RecordError as error:
        raise RecordError(f"{error}; {REPAIR}") from error
    refuse_foreign_schema(path, document)
    try:
        return sweep_from_json(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(
            f"{path} is not a plan of this version ({type(error).__name__}: {error}); {REPAIR}"
        ) from error


def refuse_foreign_schema(path: Path | str, document: Mapping[str, Any]) -> None:
    """RecordError unless `document` is of the schema that this version writes."""
    schema = document.get("schema")
    if schema != SCHEMA:
        raise RecordError(
            f"{path} has schema {schema!r}, this version of papergrid knows {SCHEMA}: "
            f"use the version that wrote it"
        )


def sweep_from_json(document: Mapping[str, Any]) -> Sweep:
    """The sweep that `to_json` wrote. KeyError, TypeError... where `document` is none."""
    sweep = Sweep(
        study=document["study"],
        title=document["title"],
        axes=tuple(
            Axis(name=a["name"], values=tuple(a["values"]), also=tuple(a["also"]))
            for a in document["axes"]
        ),
        average_over=document["average_over"],
        metric=document["metric"],
        goal=document["goal"],
        settings=dict(document["settings"]),
        runs=_runs_from_json(document["runs"]),
        code=dict(document["code"]),
        published=dict(document["published"]),
        retries=dict(document.get("retries", {})),
        free_keys=tuple(document.get("free_keys", ())),
        code_files=_texts_or_none(document.get("code_files")),
        growth=tuple(growth_from_json(growth) for growth in document.get("growth", ())),
        frozen_manifest=manifest_from_json(document["manifest"])
        if "manifest" in document
        else None,
    )
    check_plan(sweep)
    return sweep


def run_to_json(run: Run) -> dict[str, Any]:
    """One run as a plan lists it."""
    document = {
        "run_id": run.run_id,
        "path": run.path,
        "cell": run.cell,
        "axes": dict(run.axes),
        "experiment": run.experiment,
        "command": list(run.command) if run.command else None,
        "config": dict(run.config),
        "config_hash": run.config_hash,
        "resources": resources_to_json(run.resources),
        "in_table": run.in_table,
    }
    return _with_checkpoint(document, run)


def _with_checkpoint(document: dict[str, Any], run: Run) -> dict[str, Any]:
    # Absent, not null: plans and specs of trainings keep the text that they have.
    return document | ({} if run.checkpoint is None else {"checkpoint": run.checkpoint.to_json()})


def _runs_from_json(documents: Sequence[Mapping[str, Any]]) -> tuple[Run, ...]:
    runs: list[Run] = []
    known: Mapping[str, Any] = {}
    resources = Resources()
    for document in documents:
        # Most runs need the same: a comparison costs a fifth of making Resources, 10,000 times.
        if not runs or not _is_same(document["resources"], known):
            known = document["resources"]
            resources = resources_from_json(known)
        runs.append(_run_from_json(document, resources))
    return tuple(runs)


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Equal in JSON too, where 1, 1.0 and true are three values."""
    return one == other and [*map(type, one.values())] == [*map(type, other.values())]


def _run_from_json(document: Mapping[str, Any], resources: Resources) -> Run:
    command = document["command"]
    return Run(
        run_id=document["run_id"],
        path=document["path"],
        cell=document["cell"],
        axes=document["axes"],
        config=_object(document["config"]),
        config_hash=document["config_hash"],
        experiment=document["experiment"],
        command=tuple(command) if command else None,
        resources=resources,
        in_table=document["in_table"],
        checkpoint=checkpoint_from_json(document.get("checkpoint")),
    )


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a configuration is {value!r}")
    return value


def _texts_or_none(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"code_files is {value!r}")
    return tuple(value)
