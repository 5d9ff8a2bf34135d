"""The shape of a study file: which keys there are, and what kind of value each takes.

What the values mean together is checked in `check_layout` and `check_values`, against the
experiment's options and manifest.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from merge.records.metrics import Goal
from orchestrator.config.schema import Shape
from orchestrator.studies.manifest_schema import RangeEntry
from orchestrator.studies.slurm_schema import SlurmShape


def _refuse_string(value: object) -> object:
    if isinstance(value, str):
        words = ", ".join(value.split()) or "bash, train.sh"
        raise ValueError(f"a command is a list of words, so that no shell has to guess: [{words}]")
    return value


def _wrapped(key: str) -> BeforeValidator:
    """Where text stands in for a mapping: it is the value of the mapping's `key`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _axis(value: object) -> object:
    if isinstance(value, list):
        return {"values": value}
    if value is None:
        raise ValueError("has no values: write a list such as [0, 1]")
    if not isinstance(value, dict):
        raise ValueError(f"must be a list of values, such as [{value}]")
    return value


def _number(value: object) -> object:
    # Strict models refuse an int for a float, but `hours: 2` is a number for a person.
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


Values = dict[str, Any]
_Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]


class AxisShape(Shape):
    """`[a, b]`, or `{values: [a, b], also: [c]}`."""

    values: list[Any] = Field(default_factory=list)
    also: list[Any] = Field(default_factory=list)


class MetricShape(Shape):
    """`accuracy`, or `{name: loss, goal: min, unit: nats, range: [0, null]}`.

    Of an experiment the manifest says all but the name; what stands here must agree with it.
    """

    name: str = ""
    goal: Goal | None = None
    unit: str | None = None
    range: RangeEntry = None


class ResourcesShape(Shape):
    """Fields left out are those of `merge.records.sweep.Resources`."""

    device: Literal["auto", "cuda", "cpu"] | None = None
    devices_per_run: Annotated[int, Field(ge=1)] | None = None
    num_workers: Annotated[int, Field(ge=0)] | None = None
    launcher: Literal["torchrun", "none"] | None = None
    # A century: sums of larger ones overflow, and no estimate is printed with 300 digits.
    hours: Annotated[_Number, Field(gt=0, le=1_000_000)] | None = None
    nodes: Annotated[int, Field(ge=1)] | None = None
    slurm: SlurmShape | None = None
    gpu_mem_gb: Annotated[float, Field(gt=0)] | None = None


class OverrideShape(Shape):
    """Values for the runs that meet `when`."""

    when: Values = Field(default_factory=dict)
    set: Values = Field(default_factory=dict)
    resources: ResourcesShape = Field(default_factory=ResourcesShape)


class PublishedShape(Shape):
    """`abcb`, or `{file: abcb, method: ABCB, tolerance: 0.01}`."""

    file: str = ""
    method: str | None = None
    tolerance: Annotated[_Number, Field(ge=0)] | None = None


class StudyShape(Shape):
    """All keys of a study file."""

    name: str = ""
    title: str = ""
    experiment: str | None = None
    command: Annotated[list[Any] | None, BeforeValidator(_refuse_string)] = None
    axes: dict[str, Annotated[AxisShape, BeforeValidator(_axis)]] = Field(default_factory=dict)
    average_over: str = ""
    metric: Annotated[MetricShape, _wrapped("name")] = Field(default_factory=MetricShape)
    fixed: Values = Field(default_factory=dict)
    overrides: list[OverrideShape] = Field(default_factory=list)
    exclude: list[Values] = Field(default_factory=list)
    cell: str | None = None
    run_path: str | None = None
    resources: ResourcesShape = Field(default_factory=ResourcesShape)
    published: Annotated[PublishedShape | None, _wrapped("file")] = None
    retries: Values = Field(default_factory=dict)
    debug: Values = Field(default_factory=dict)
    code: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
    """Files and folders that count as code, relative to the study file."""
