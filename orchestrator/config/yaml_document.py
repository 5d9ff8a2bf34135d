"""A YAML file that a person wrote: its values, and the line and column of each.

Only plain data is accepted: no tags, no merge keys, no second document. Keys are text as written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from merge.errors import StudyError, UsageError
from orchestrator.config.values import parse_scalar

Place = tuple[str | int, ...]
"""Keys and indices from the top of a file: ("axes", "backbone", 0)."""

_TEXT_TAG = "tag:yaml.org,2002:str"
_MAX_DEPTH = 12
_MAX_VALUES = 100_000
"""Aliases can expand a short file to any size ('billion laughs'); real studies stay far below."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem at a place of a file. Lines and columns count from 1."""

    line: int
    column: int
    file: str
    where: str
    message: str

    def __str__(self) -> str:
        where = f" {self.where}" if self.where else ""
        return f"{self.file}:{self.line}:{self.column}{where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Document:
    """The values of a file with their places."""

    path: Path
    data: dict[str, Any]
    root: yaml.MappingNode
    problems: tuple[Problem, ...]
    """Problems with single values; these values are None in `data`."""

    def problem(self, place: Place, message: str, *, at_key: bool = False) -> Problem:
        """A problem at `place`, or at the nearest place above it that exists in the file."""
        mark = _mark(self.root, place, at_key=at_key)
        return Problem(mark.line + 1, mark.column + 1, self.path.name, spelled(place), message)


def spelled(place: Place) -> str:
    """`overrides[0].set.lr`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(path: Path) -> Document:
    """Read the YAML mapping in `path`.

    UsageError where the file cannot be read, StudyError where it is not a YAML mapping. Single bad
    values do not stop the reading: `problems` lists them.
    """
    node = _compose(path, _read_text(path))
    if not isinstance(node, yaml.MappingNode):
        raise StudyError(str(path), (f"{path.name}:1:1: the file has no `key: value` lines",))
    reader = _Reader(path.name)
    try:
        data = reader.mapping(node, ())
    except _TooLargeError as error:
        problem = f"{path.name}: nested too deeply, or more than {_MAX_VALUES} values"
        raise StudyError(str(path), (problem,)) from error
    return Document(path=path, data=data, root=node, problems=tuple(reader.problems))


def _read_text(path: Path) -> str:
    try:
        # With or without the byte order mark that Windows editors write.
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def _compose(path: Path, text: str) -> yaml.Node | None:
    try:
        # Nodes, not values: only nodes know their line and column.
        return yaml.compose(text, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        message = ", ".join(part for part in (error.context, error.problem) if part)
        message += ": indent with spaces" if "'\\t'" in message else ""
        raise StudyError(str(path), (f"{path.name}:{place}: invalid YAML: {message}",)) from error
    except yaml.YAMLError as error:
        raise StudyError(str(path), (f"{path.name}: invalid YAML: {error}",)) from error
    # Deep nesting exhausts Python's stack inside PyYAML, before our own limit can count it.
    except RecursionError as error:
        raise StudyError(str(path), (f"{path.name}: nested too deeply",)) from error


class _TooLargeError(Exception):
    """The file expands to more values than any study has, perhaps because it refers to itself."""


class _PlainLoader(yaml.SafeLoader):
    """Leaves every plain scalar as text; `parse_scalar` converts it (YAML 1.2 rules)."""

    # YAML 1.1's rules read `on` as true, `1:30` as 90 and `2024-01-31` as a date.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Reader:
    """Converts nodes to values and collects problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._num_values = 0

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, place, "a key must be a single word")
            # PyYAML itself would silently keep the last of two.
            elif key_node.value in values:
                self._note(key_node, (*place, key_node.value), "this key appears twice")
            else:
                values[key_node.value] = self._value(value_node, (*place, key_node.value))
        return values

    def _value(self, node: yaml.Node, place: Place) -> object:
        self._num_values += 1
        if len(place) > _MAX_DEPTH or self._num_values > _MAX_VALUES:
            raise _TooLargeError
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*place, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, place)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> object:
        if node.tag != _TEXT_TAG:
            self._note(node, place, f"the tag {node.tag!r} is not allowed: write the plain value")
            return None
        # A style means quotes or a block: the value is text, even if it looks like a number.
        value = parse_scalar(node.value) if node.style is None else node.value
        if isinstance(value, float) and not math.isfinite(value):
            self._note(node, place, f"{node.value} is not a finite number")
            return None
        return value

    def _note(self, node: yaml.Node, place: Place, message: str) -> None:
        mark = node.start_mark
        self.problems.append(
            Problem(mark.line + 1, mark.column + 1, self.file, spelled(place), message)
        )


def _mark(root: yaml.MappingNode, place: Place, *, at_key: bool) -> yaml.Mark:
    node: yaml.Node = root
    mark = root.start_mark
    for position, part in enumerate(place):
        step = _step(node, part)
        if step is not None:
            key, node = step
            is_last = position == len(place) - 1
            # An unknown key is wrong itself; every other problem is one of its value.
            mark = key.start_mark if at_key and is_last else node.start_mark
    return mark


def _step(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((k, v) for k, v in node.value if k.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def as_lines(problems: Iterable[Problem]) -> tuple[str, ...]:
    """The problems as text, in the order of the file, without duplicates."""
    in_order = sorted(problems, key=lambda problem: (problem.line, problem.column))
    # An alias repeats a value, and so its problem.
    return tuple(dict.fromkeys(str(problem) for problem in in_order))


class Notes:
    """Collects problems in `document`, and in files that it refers to."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._problems: list[Problem] = []
        self._elsewhere: list[str] = []
        self._touched: set[str] = set()

    def add(self, place: Place, message: str, *, at_key: bool = False) -> None:
        """Add a problem at `place` of the file."""
        self.extend([self.document.problem(place, message, at_key=at_key)])

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._problems.append(problem)
            # Checks that build on a key are skipped where the key itself has a problem, so that one
            # mistake gives one message.
            self._touched.add(problem.where.split(".")[0].split("[")[0])

    def add_elsewhere(self, error: StudyError) -> None:
        """Add the problems of another file, which this one refers to."""
        self._elsewhere += error.problems

    def touches(self, *keys: str) -> bool:
        """Whether there is a problem at or below one of these top-level keys."""
        return not self._touched.isdisjoint(keys)

    def has(self, place: Place) -> bool:
        """Whether there is a problem at exactly this place."""
        return any(problem.where == spelled(place) for problem in self._problems)

    @property
    def is_empty(self) -> bool:
        return not self._problems and not self._elsewhere

    def raise_if_any(self) -> None:
        """StudyError with every problem, in the order of the file."""
        lines = (*as_lines(self._problems), *self._elsewhere)
        if lines:
            raise StudyError(str(self.document.path), lines)
