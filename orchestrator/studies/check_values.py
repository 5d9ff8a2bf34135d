"""Checks of a study's values: axes, fixed values, overrides, excludes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from merge.records.sweep import Axis, Value
from merge.wording import did_you_mean, hint, listed
from orchestrator.config.values import (
    ConfigValue,
    is_named_by,
    is_scalar,
    plain_text,
    slug,
    text_of,
)
from orchestrator.config.yaml_document import Notes, Place
from orchestrator.runs.retries import DEFAULT_RULES, NEVER
from orchestrator.studies.options import UnfitError, UnknownKeyError
from orchestrator.studies.rules import AnyRules, Rules
from orchestrator.studies.schema import AxisShape, OverrideShape, StudyShape
from orchestrator.studies.study import Condition, Override

_CELL = "cell"


def check_axes(
    shape: StudyShape, rules: Rules, reserved: Collection[str], notes: Notes
) -> tuple[Axis, ...]:
    """The axes, with their values in the option's type.

    The averaged one has none of the `reserved` values: keys that stand beside them in results.
    """
    if not shape.axes and not notes.touches("axes"):
        notes.add(("axes",), "missing: a study needs axes, such as `axes: {seed: [0, 1, 2, 3]}`")
    return tuple(
        _axis(name, axis, reserved if name == shape.average_over else (), rules, notes)
        for name, axis in shape.axes.items()
    )


def check_values(
    values: Mapping[str, Any], place: Place, axes: Iterable[Axis], rules: Rules, notes: Notes
) -> dict[str, ConfigValue]:
    """Values of a configuration, fitted to the rules."""
    names = {axis.name for axis in axes}
    fitted: dict[str, ConfigValue] = {}
    for key, value in values.items():
        # What is unfit stays as it is, so that it does not seem to be missing elsewhere.
        fitted[key] = value if is_scalar(value) else "unfit"
        if key in names:
            notes.add((*place, key), "is an axis: give its values under `axes`", at_key=True)
            continue
        if notes.has((*place, key)):
            continue
        try:
            fitted[key] = rules.fitted(key, value)
        except UnfitError as error:
            notes.add((*place, key), str(error), at_key=isinstance(error, UnknownKeyError))
    return fitted


def check_overrides(
    shape: StudyShape, axes: Sequence[Axis], known: Iterable[str], rules: Rules, notes: Notes
) -> tuple[Override, ...]:
    """The overrides; `known` are the keys that a condition may name beside axes."""
    keys = {axis.name: axis for axis in axes} | dict.fromkeys(known)
    return tuple(
        _override(override, ("overrides", index), axes, keys, rules, notes)
        for index, override in enumerate(shape.overrides)
    )


def check_excludes(
    shape: StudyShape, axes: Sequence[Axis], rules: Rules, notes: Notes
) -> tuple[Condition, ...]:
    """The conditions under which a grid point is no run."""
    keys: dict[str, Axis | None] = {axis.name: axis for axis in axes}
    return tuple(
        _condition(condition, ("exclude", index), keys, rules, notes)
        for index, condition in enumerate(shape.exclude)
    )


def _axis(
    name: str, axis: AxisShape, reserved: Collection[str], rules: Rules, notes: Notes
) -> Axis:
    place: Place = ("axes", name)
    rules = _axis_rules(name, place, rules, notes)
    if not axis.values and not notes.touches("axes"):
        notes.add(place, "has no values: write a list such as [0, 1]")
    # The document, not the validated shape, knows which of the two forms the person wrote.
    as_list = isinstance(notes.document.data["axes"][name], list)
    places = [
        *((*place, i) if as_list else (*place, "values", i) for i in range(len(axis.values))),
        *((*place, "also", i) for i in range(len(axis.also))),
    ]
    values = [
        _axis_value(name, value, at, rules, notes)
        for at, value in zip(places, axis.values + axis.also, strict=True)
    ]
    _refuse_equals(values, places, notes)
    for value, at in zip(values, places, strict=True):
        if value in reserved:
            notes.add(at, f"{value!r} is also a key of the merged results: rename this value")
    num_values = len(axis.values)
    return Axis(
        name=name,
        values=tuple(value for value in values[:num_values] if value is not None),
        also=tuple(value for value in values[num_values:] if value is not None),
    )


def _axis_rules(name: str, place: Place, rules: Rules, notes: Notes) -> Rules:
    if name == _CELL:
        notes.add(place, "an axis cannot be called cell: templates use {cell}", at_key=True)
    try:
        rules.check_key(name)
    except UnknownKeyError as error:
        # Reported once, not again for each value of the axis.
        notes.add(place, str(error), at_key=True)
        return AnyRules()
    return rules


def _axis_value(name: str, value: object, at: Place, rules: Rules, notes: Notes) -> Value | None:
    if notes.has(at):
        return None
    if not is_scalar(value):
        notes.add(at, f"a value of an axis is a single value, not {value!r}")
        return None
    try:
        fitted = rules.fitted(name, value)
    except UnfitError as error:
        notes.add(at, str(error))
        return None
    if not is_scalar(fitted):
        notes.add(at, "an option that takes lists cannot be an axis")
        return None
    return fitted


def _refuse_equals(values: list[Value | None], places: list[Place], notes: Notes) -> None:
    seen: dict[str, Value] = {}
    numbers: dict[float, Value] = {}
    for value, place in zip(values, places, strict=True):
        if value is None:
            continue
        # Case-insensitive file systems would give both values one folder.
        key = slug(value).casefold()
        # 1 and 1.0 are one key of a mapping, and so are 1 and true.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        equal = numbers.setdefault(value, value) if is_number else value  # type: ignore[arg-type]
        if key not in seen and text_of(equal) == text_of(value):
            seen[key] = value
        elif key not in seen:
            notes.add(place, f"{text_of(value)!r} is listed twice: {text_of(equal)!r} is equal")
        elif text_of(seen[key]) == text_of(value):
            notes.add(place, f"{text_of(value)!r} is listed twice")
        else:
            notes.add(
                place,
                f"{text_of(value)!r} and {text_of(seen[key])!r} would have the same folder name",
            )


def _override(
    override: OverrideShape,
    place: Place,
    axes: Sequence[Axis],
    keys: Mapping[str, Axis | None],
    rules: Rules,
    notes: Notes,
) -> Override:
    resources = override.resources.model_dump(exclude_none=True)
    if not override.set and not resources and not notes.touches("overrides"):
        notes.add(place, "changes nothing: it needs `set:` or `resources:`")
    return Override(
        when=_condition(override.when, (*place, "when"), keys, rules, notes),
        set=check_values(override.set, (*place, "set"), axes, rules, notes),
        resources=resources,
    )


def _condition(
    condition: Mapping[str, Any],
    place: Place,
    keys: Mapping[str, Axis | None],
    rules: Rules,
    notes: Notes,
) -> Condition:
    if not condition:
        notes.add(place, "is empty: it would apply to every run")
    texts: dict[str, frozenset[str]] = {}
    for key, given in condition.items():
        at = (*place, key)
        if key not in keys:
            notes.add(at, f"unknown key{hint(key, keys)}", at_key=True)
            continue
        if given == []:
            notes.add(at, "names no value")
        values = list(enumerate(given)) if isinstance(given, list) else [(None, given)]
        named = (
            _condition_text(key, value, at if i is None else (*at, i), keys[key], rules, notes)
            for i, value in values
        )
        texts[key] = frozenset(text for text in named if text is not None)
    return texts


def _condition_text(
    key: str,
    value: object,
    place: Place,
    axis: Axis | None,
    rules: Rules,
    notes: Notes,
) -> str | None:
    if axis is None:
        try:
            return plain_text(rules.fitted(key, value))
        except UnfitError as error:
            notes.add(place, str(error))
            return None
    text = text_of(value) if is_scalar(value) else repr(value)
    # As a filter names it: `1e-4` in a condition means the axis's 0.0001.
    for choice in axis.choices:
        if is_named_by(choice, text):
            return plain_text(choice)
    choices = [text_of(choice) for choice in axis.choices]
    notes.add(
        place,
        f"axis {key} has no value {text!r}{did_you_mean(text, choices)}; "
        f"choices: {listed(choices)}",
    )
    return None


_FIELDS = {"limit": int, "wait_s": (int, float)}


def check_retries(given: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """The rules that fit, as `retries.read_policy` takes them; problems go to `notes`."""
    return {
        name: value
        for name, value in given.items()
        if _is_known(name, notes) and _fits(name, value, notes)
    }


def _is_known(name: str, notes: Notes) -> bool:
    names = [cause.value for cause in DEFAULT_RULES]
    if name in (*names, "max"):
        return True
    if name in [cause.value for cause in NEVER]:
        notes.add(("retries", name), "a second attempt would end like the first", at_key=True)
    else:
        notes.add(
            ("retries", name),
            f"is not a cause of a failure{hint(name, ['max', *names])}",
            at_key=True,
        )
    return False


def _fits(name: str, value: object, notes: Notes) -> bool:
    if _is_number(value, int):
        return True
    if not isinstance(value, dict) or name == "max":
        notes.add(("retries", name), f"must be how many more attempts, 0 or more, not {value!r}")
        return False
    problems = [key for key, part in value.items() if not _is_number(part, _FIELDS.get(key, ()))]
    for key in problems:
        known = "0 or more" if key in _FIELDS else "unknown: there are limit and wait_s"
        notes.add(("retries", name, key), f"must be {known}" if key in _FIELDS else known)
    return not problems


def _is_number(value: object, kind: Any) -> bool:  # noqa: ANN401
    # bool is a subclass of int. The upper bound keeps inf, and waits beyond any sweep, out.
    return isinstance(value, kind) and not isinstance(value, bool) and 0 <= value <= 10**9
