"""A study: the grid behind a results table, validated, with every value in its final type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merge.records.manifest import Manifest
from merge.records.metrics import Goal
from merge.records.short_repr import ShortRepr
from merge.records.sweep import Axis, Resources
from orchestrator.config.values import ConfigValue

Condition = Mapping[str, frozenset[str]]
"""Key -> the texts of the values for which it holds; all keys must hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Values for the runs that meet a condition."""

    when: Condition
    set: Mapping[str, ConfigValue]
    resources: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Resources` that differ for these runs."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Study(ShortRepr):
    """One study file, with `--set` and `--debug` taken in.

    A run's configuration is, from weakest to strongest: defaults, fixed, overrides in their order,
    debug, settings, axes.
    """

    name: str
    title: str
    source: Path
    """The study file."""
    axes: tuple[Axis, ...]
    average_over: str
    metric: str
    cell: str
    """Template of a cell's name."""
    run_path: str
    """Template of a run's folder."""
    manifest: Manifest
    """Of its experiment; of a command the metric that the study declares."""
    goal: Goal = "max"
    experiment: str | None = None
    command: tuple[str, ...] | None = None
    """Words with `{placeholders}`, which are filled when a run is started."""
    code_files: tuple[str, ...] | None = None
    """Files and folders that count as code, seen from where commands start; None: not named."""
    defaults: Mapping[str, ConfigValue] = field(default_factory=dict)
    """The experiment's own defaults: a plan shows every value that a run was trained with."""
    fixed: Mapping[str, ConfigValue] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    debug: Mapping[str, ConfigValue] = field(default_factory=dict)
    """The file's `debug:` values where they were asked for; else empty."""
    settings: Mapping[str, ConfigValue] = field(default_factory=dict)
    """What `--set` changed."""
    exclude: tuple[Condition, ...] = ()
    resources: Resources = field(default_factory=Resources)
    free_keys: tuple[str, ...] = ()
    """Keys of a configuration on which no number depends."""
    retries: Mapping[str, Any] = field(default_factory=dict)
    """How often which kind of failure is tried again, where not as by default."""
    published: Mapping[str, Any] = field(default_factory=dict)
    """Published numbers: {"source": ..., "cells": {cell: {"mean": .., "0": ..}}}."""
