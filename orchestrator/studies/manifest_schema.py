"""The shape of an experiment's `manifest.yaml`: which keys there are, what each takes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from merge.records.metrics import NUMBER, Goal, Range, read_range
from orchestrator.config.schema import Shape


def _range(value: object) -> object:
    return None if value is None else read_range(value)


def _number(value: object) -> object:
    # Strict models refuse an int for a float.
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


RangeEntry = Annotated[Range | None, BeforeValidator(_range)]
"""`[0, 1]`; null for an end that is open."""


class MeanOverEntry(Shape):
    """What a metric is a mean over, and which detail holds the value of each part."""

    parts: str = ""
    values: str = ""


class SuspectEntry(Shape):
    """A value that says that nothing was learnt, and the words for it."""

    value: Annotated[float | None, BeforeValidator(_number)] = None
    means: str = ""


class MetricEntry(Shape):
    """`{unit: percent, goal: max, help: "..."}`."""

    unit: str = NUMBER
    goal: Goal | None = None
    help: str = ""
    range: RangeEntry = None
    mean_over: MeanOverEntry | None = None
    suspect: SuspectEntry | None = None


class TestListEntry(Shape):
    """Which keys of a configuration decide the test list, and which detail is its hash."""

    __test__ = False  # pytest takes a class of this name for a test

    hash: str = ""
    decided_by: list[str] = Field(default_factory=list)


class ComparabilityEntry(Shape):
    """Details of results: what is kept, and what must be equal where."""

    recorded: list[str] = Field(default_factory=list)
    equal_in_a_cell: list[str] = Field(default_factory=list)
    equal_in_a_pair: list[str] = Field(default_factory=list)
    test_list: TestListEntry | None = None


class BaselineEntry(Shape):
    """The metrics before training: how they are called, which detail holds them."""

    label: str = ""
    details: str = ""


class SeriesEntry(Shape):
    """A metric at several steps of a prediction: which detail of an evaluation holds the list."""

    details: str = ""
    label: str = ""
    title: str = ""


class ReportEntry(Shape):
    """What a report shows."""

    provenance: list[str] = Field(default_factory=list)
    panels_title: str = ""
    panels_show: str = ""
    series: SeriesEntry | None = None


class ModuleEntry(Shape):
    """A module of the experiment, and the flag that hands each key of a configuration to it."""

    module: str = ""
    words: dict[str, str] = Field(default_factory=dict)


class DataEntry(Shape):
    """How an experiment's data sets are prepared."""

    prepare: ModuleEntry | None = None


class ManifestShape(Shape):
    """All keys of a manifest."""

    title: str = ""
    metrics: dict[str, MetricEntry] = Field(default_factory=dict)
    comparability: ComparabilityEntry = Field(default_factory=ComparabilityEntry)
    repeats: list[str] = Field(default_factory=list)
    baseline: BaselineEntry | None = None
    bootstrap: str = "bootstrap"
    report: ReportEntry = Field(default_factory=ReportEntry)
    batch_norm: bool | dict[str, Any] = False
    """Whether batch norm is trained: always, or where a configuration has these values."""
    code: list[str] = Field(default_factory=list)
    """Shared folders of `experiments/` whose code computes this experiment's numbers."""
    result_code: list[str] = Field(default_factory=list)
    """Further files that turn counts into the metric, from papergrid's source folder."""
    data: DataEntry = Field(default_factory=DataEntry)
