"""The options of every experiment, and how a dataclass of options becomes checked values.

An experiment's `options.py` declares a frozen dataclass `Options` without importing torch. A field
that is itself a dataclass is a group; the names of all groups' fields together are flat, as a study
writes them, and a group may put a prefix before its names:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Options:
        runtime: RuntimeOptions = RuntimeOptions(epochs=3)
        optimiser: OptimiserOptions = OptimiserOptions(lr=0.1)
        head: Annotated[HeadOptions, Prefix("head_")] = HeadOptions()
        noise: Annotated[float, Range(0, 1)] = 0.1
        \"\"\"Standard deviation of the noise.\"\"\"

Types are int, float, bool, str, a `Literal` of values of one type (its choices), or a tuple of one
of them (`tuple[int, ...]`). The docstring under a field is its help.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from experiments.runtime.option_notes import FREE, TESTS, Prefix, Range
from experiments.runtime.training_options import (
    Amp,
    ExperimentOptions,
    OptimiserOptions,
    RuntimeOptions,
)
from merge.errors import UsageError
from merge.records.options import Option, Options, UnfitError
from merge.records.typed_words import Kind
from merge.storage.json_files import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "FREE",
    "TESTS",
    "Amp",
    "ExperimentOptions",
    "Leaf",
    "OptimiserOptions",
    "Prefix",
    "Range",
    "RuntimeOptions",
    "build",
    "declared",
    "flat",
    "leaves",
]

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One option as its dataclass declares it."""

    owner: type
    field: str
    name: str
    """As a study writes it: with the prefixes of its groups."""
    path: tuple[str, ...]
    """Names of the groups it lies in, then its own."""
    option: Option
    default: object


def leaves(kind: type) -> list[Leaf]:
    """All options of the dataclass `kind`, in the order in which `options.yaml` lists them.

    `MAY_SKIP_TRAINING: ClassVar[bool] = True` in `kind` permits runs of 0 epochs: the model that
    `build_model` returns is evaluated, such as one with published weights.
    TypeError where it is no dataclass with defaults, of options with names of their own.
    """
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is no dataclass: put @dataclass above it")
    found: dict[str, Leaf] = {}
    for leaf in _walk(kind, _defaults(kind), "", ()):
        if leaf.name in found:
            places = " and ".join(".".join(each.path) for each in (found[leaf.name], leaf))
            raise TypeError(
                f"two options have the name {leaf.name!r} ({places}): rename one, or give its "
                'group a prefix: Annotated[Group, Prefix("head_")]'
            )
        found[leaf.name] = leaf
    order: tuple[str, ...] = getattr(kind, "ORDER", tuple(found))
    if sorted(order) != sorted(found):
        raise TypeError(f"{kind.__name__}.ORDER does not name each of its options once")
    if getattr(kind, "MAY_SKIP_TRAINING", False):
        found = {name: _without_training(leaf) for name, leaf in found.items()}
    return [found[name] for name in order]


def _without_training(leaf: Leaf) -> Leaf:
    """`leaf`; the runtime's epochs may be 0."""
    if (leaf.owner, leaf.field) != (RuntimeOptions, "epochs"):
        return leaf
    return dataclasses.replace(leaf, option=dataclasses.replace(leaf.option, minimum=0))


def declared(kind: type, experiment: str) -> Options:
    """The options that the dataclass `kind` declares, ready to check values."""
    all_leaves = leaves(kind)
    return Options(
        experiment=experiment,
        by_name={leaf.name: leaf.option for leaf in all_leaves},
        defaults={leaf.name: cast(Any, _as_json(leaf.default)) for leaf in all_leaves},
    )


def build(kind: type[OptionsT], values: Mapping[str, Json], experiment: str = "") -> OptionsT:
    """A `kind` with `values`, named flat, over the defaults.

    UsageError lists all names and values that it does not take.
    """
    try:
        fitted = declared(kind, experiment).fitted_all(values)
    except UnfitError as error:
        raise UsageError(str(error)) from error
    options: OptionsT = kind()
    paths = {leaf.name: leaf.path for leaf in leaves(kind)}
    changes: dict[str, Any] = {}
    for name, value in fitted.items():
        *groups, field = paths[name]
        inner = changes
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[field] = tuple(value) if isinstance(value, list) else value
    return _replaced(options, changes)


def flat(options: DataclassInstance) -> dict[str, Json]:
    """The options by their flat names as JSON values, as run.json has them."""
    values: dict[str, Json] = {}
    for leaf in leaves(type(options)):
        value: Any = options
        for part in leaf.path:
            value = getattr(value, part)
        values[leaf.name] = _as_json(value)
    return values


def _replaced(options: OptionsT, changes: Mapping[str, object]) -> OptionsT:
    """`options` with `changes`, where a change of a group is a mapping of its fields."""
    inner = {
        name: _replaced(getattr(options, name), change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return cast(OptionsT, dataclasses.replace(cast(Any, options), **inner))


def _defaults(kind: type) -> object:
    try:
        return kind()
    except TypeError as error:
        raise TypeError(f"{error}: every option needs a default") from error


def _walk(kind: type, default: object, prefix: str, path: tuple[str, ...]) -> Iterator[Leaf]:
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(cast(Any, kind)):
        plain, notes = _unwrapped(hints[field.name])
        value, place = getattr(default, field.name), (*path, field.name)
        if dataclasses.is_dataclass(plain):
            more = "".join(note.text for note in notes if isinstance(note, Prefix))
            yield from _walk(cast(type, plain), value, prefix + more, place)
        else:
            option = _option(field.name, plain, notes)
            yield Leaf(kind, field.name, prefix + field.name, place, option, value)


def _unwrapped(hint: object) -> tuple[object, tuple[object, ...]]:
    """A type without `Annotated`, and what that adds to it."""
    if get_origin(hint) is Annotated:
        plain, *notes = get_args(hint)
        return plain, tuple(notes)
    return hint, ()


def _option(name: str, plain: object, notes: tuple[object, ...]) -> Option:
    is_list = get_origin(plain) is tuple
    item = get_args(plain)[0] if is_list else plain
    choices = get_args(item) if get_origin(item) is Literal else ()
    kind = type(choices[0]) if choices else item
    if kind not in (int, float, bool, str):
        raise TypeError(
            f"option {name!r} is {plain}: it must be int, float, bool, str, Literal or tuple"
        )
    limits = next((note for note in notes if isinstance(note, Range)), Range())
    return Option(
        kind=cast(Kind, kind.__name__),
        is_list=is_list,
        choices=choices,
        minimum=limits.least,
        maximum=limits.largest,
        decides_numbers=FREE not in notes,
        is_test_setting=TESTS in notes,
    )


def _as_json(value: object) -> Json:
    return cast(Json, list(value) if isinstance(value, tuple) else value)
