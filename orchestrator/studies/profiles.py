"""Profiles: what a machine or a cluster can carry, apart from any study.

A profile is a YAML file. It says how many devices a run gets, in which precision they compute, how
many items a device computes at a time, and with how many loader processes; also what a cluster's
jobs ask for (the keys of `resources: {slurm: ...}`). The global batch stays the study's: a device
that carries fewer items than its share accumulates gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from merge.errors import StudyError
from orchestrator.config.schema import fit
from orchestrator.config.values import ConfigValue
from orchestrator.config.yaml_document import as_lines, read_document
from orchestrator.studies.slurm_schema import SlurmShape
from orchestrator.studies.study import Study

_RESOURCES = ("devices_per_run", "num_workers")
_OPTIONS = {"amp": "amp", "per_device_batch": "micro_batch"}
"""Key of a profile -> the option of an experiment that it sets."""


class ProfileShape(SlurmShape):
    """All keys of a profile: those of the hardware, and those of SLURM's jobs."""

    title: str | None = None
    devices_per_run: Annotated[int, Field(ge=1)] | None = None
    num_workers: Annotated[int, Field(ge=0)] | None = None
    amp: Literal["auto", "off", "bf16", "fp16"] | None = None
    per_device_batch: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile that was read."""

    name: str
    resources: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Resources`; they decide no configuration."""
    options: Mapping[str, ConfigValue] = field(default_factory=dict)
    """Values of an experiment's options. They are part of a configuration and its hash, except
    where the option decides no number."""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """What SLURM's jobs ask for."""

    def text(self) -> str:
        """`profile g5: devices_per_run 4, num_workers 8, amp bf16, micro_batch 32`."""
        values = [f"{key} {value}" for key, value in {**self.resources, **self.options}.items()]
        return f"profile {self.name}: {', '.join(values) or 'only keys of SLURM'}"


def read_profile(path: Path) -> Profile:
    """The profile in `path`. UsageError where it cannot be read, StudyError with all problems."""
    document = read_document(path)
    shape, problems = fit(document, ProfileShape, document.data)
    if problems := [*document.problems, *problems]:
        raise StudyError(str(path), as_lines(problems))
    given: dict[str, Any] = shape.model_dump(exclude_none=True)
    return Profile(
        name=path.stem,
        resources={key: given[key] for key in _RESOURCES if key in given},
        options={option: given[key] for key, option in _OPTIONS.items() if key in given},
        slurm={key: value for key, value in given.items() if key in SlurmShape.model_fields},
    )


def on_hardware(study: Study, profile: Profile) -> Study:
    """`study` with the resources of `profile`, also for the runs that the study gives others."""
    if not profile.resources:
        return study
    overrides = tuple(
        replace(
            override,
            resources={k: v for k, v in override.resources.items() if k not in profile.resources},
        )
        for override in study.overrides
    )
    resources = replace(study.resources, **profile.resources)
    return replace(study, resources=resources, overrides=overrides)
