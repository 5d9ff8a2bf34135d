"""Shapes: pydantic models of a person's YAML, validated with all problems in one list."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from merge.wording import hint
from orchestrator.config.yaml_document import Document, Place, Problem


class Shape(BaseModel):
    """Base of all shapes: unknown keys are refused, and no value is converted.

    Every field has a default: the code that needs a key reports it as missing, with all other
    problems.
    """

    # strict: pydantic would else read "8" as 8 and 1 as true, and a study would mean something else
    # than it says.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


ShapeT = TypeVar("ShapeT", bound=Shape)

_EXPECTED = {
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping (`key: value` lines)",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "list_type": "must be a list (`[a, b]`)",
    "model_type": "must be a mapping (`key: value` lines)",
    "string_type": "must be text (in quotes where it looks like a number)",
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
}


def fit(
    document: Document, model: type[ShapeT], data: object, at: Place = ()
) -> tuple[ShapeT, list[Problem]]:
    """`data`, at place `at` of the document, as a `model`, and the problems with it.

    Invalid values are left out, so that the rest can still be checked.
    """
    # Invalid parts are removed below; later checks read the caller's data.
    rest = deepcopy(data)
    problems: list[Problem] = []
    # pydantic returns no partial model: remove what is invalid and validate again.
    while True:
        try:
            return model.model_validate(rest), problems
        except ValidationError as error:
            details = error.errors()
        problems += [_problem(document, model, at, item) for item in details]
        # The value itself is not a mapping, so nothing in it can be checked.
        if any(not item["loc"] for item in details):
            # The whole is no mapping: there is nothing inside of it to remove.
            rest, details = {}, []
        # From the end: removing an item of a list shifts the indices behind it.
        for place in sorted({item["loc"] for item in details}, key=_sort_key, reverse=True):
            _remove(rest, place)


def _problem(document: Document, model: type[Shape], at: Place, item: ErrorDetails) -> Problem:
    place = (*at, *item["loc"])
    if item["type"] == "extra_forbidden":
        known = _model_at(model, item["loc"]).model_fields
        message = f"unknown key{hint(str(place[-1]), known)}"
        return document.problem(place, message, at_key=True)
    if item["type"] == "literal_error":
        message = f"{item['input']!r} is not one of {item['ctx']['expected']}"
    elif item["type"] in _EXPECTED:
        message = f"{_EXPECTED[item['type']]}, {_but_found(item['input'])}"
    elif item["type"] in _LIMITS:
        words, limit = _LIMITS[item["type"]]
        message = f"must be {words} {item['ctx'][limit]:g}, not {item['input']!r}"
    else:
        # pydantic puts this before the text of every ValueError of a validator of ours.
        message = item["msg"].removeprefix("Value error, ")
    return document.problem(place, message)


def _but_found(value: object) -> str:
    return "but the value is empty" if value is None else f"not {value!r}"


def _model_at(model: type[Shape], place: Place) -> type[Shape]:
    for part in place[:-1]:
        field = model.model_fields.get(str(part))
        model = next(_shapes_in(field.annotation), model) if field else model
    return model


def _shapes_in(annotation: object) -> Iterator[type[Shape]]:
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        yield annotation
    for part in get_args(annotation):
        yield from _shapes_in(part)


def _sort_key(place: Place) -> list[tuple[bool, int, str]]:
    # Keys and indices cannot be compared with each other: each part becomes a tuple that can.
    return [(isinstance(p, int), p if isinstance(p, int) else 0, str(p)) for p in place]


def _remove(data: Any, place: Place) -> None:  # noqa: ANN401
    *parents, last = place
    for part in parents:
        data = data[part]
    del data[last]
