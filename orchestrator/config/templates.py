"""Templates with `{placeholders}`: names of cells, paths of runs, and which paths are valid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from string import Formatter

from merge.errors import UsageError
from merge.storage.paths import RESERVED_NAMES, RESERVED_STARTS
from orchestrator.config.values import ConfigValue, slug, text_of

LAUNCH_PLACEHOLDERS = ("run_dir", "run_spec", "attempt_dir")
"""Placeholders of a command beside the keys of the configuration (the run contract)."""

# No part starts with a dot (`..`, hidden and temporary files) or a dash (taken for a flag).
_PART = re.compile(r"[A-Za-z0-9_+=,@][A-Za-z0-9._+=,@-]*(?<!\.)")
_MAX_LENGTH = 200
# Not str.format: a command is often shell or awk text, where other braces have a meaning of their
# own.
_IN_COMMAND = re.compile(r"\{\{(?P<literal>\w+)\}\}|(?<!\$)\{(?P<name>[A-Za-z_]\w*)\}")


class TemplateError(ValueError):
    """A template that cannot be parsed, or that names a value that does not exist."""


def placeholders(template: str) -> tuple[str, ...]:
    """Names in braces, in order. TemplateError for single braces and anything but plain names."""
    return tuple(name for _, name in _parts(template) if name is not None)


def command_placeholders(words: Iterable[str]) -> tuple[str, ...]:
    """Names that a launch fills in: `{name}`, but neither `${name}` nor `{{name}}`."""
    names = (match["name"] for word in words for match in _IN_COMMAND.finditer(word))
    return tuple(name for name in names if name)


def fill_placeholders(words: tuple[str, ...], values: Mapping[str, ConfigValue]) -> tuple[str, ...]:
    """`words` with each `{name}` replaced by its value; `${name}` and `{{name}}` stay braces.

    UsageError names every placeholder that has no value.
    """
    unknown = sorted(
        {
            match["name"]
            for word in words
            for match in _IN_COMMAND.finditer(word)
            if match["name"] and match["name"] not in values
        }
    )
    if unknown:
        raise UsageError(
            f"the command has no value for {', '.join(f'{{{name}}}' for name in unknown)}; "
            f"it can use: {', '.join(sorted(values))}; write {{{{name}}}} for literal braces"
        )

    def replacement(match: re.Match[str]) -> str:
        return f"{{{match['literal']}}}" if match["literal"] else text_of(values[match["name"]])

    return tuple(_IN_COMMAND.sub(replacement, word) for word in words)


def render(template: str, values: Mapping[str, ConfigValue]) -> str:
    """`template` filled in for a folder name: characters that are unsafe there become dashes."""
    words = []
    for literal, name in _parts(template):
        words.append(literal)
        if name is not None:
            # A slash in a value would add a level of folders.
            words.append(slug(_scalar(name, values)))
    return "".join(words)


def path_problem(path: str) -> str | None:
    """Why `path` cannot be a folder below the output folder; None if it can."""
    if len(path) > _MAX_LENGTH:
        return f"is {len(path)} characters long: only {_MAX_LENGTH} are safe on every file system"
    for part in path.split("/"):
        # Case-insensitive file systems (macOS, exFAT) take `Sweep.json` for `sweep.json`.
        if part.casefold() in RESERVED_NAMES or part.casefold().startswith(RESERVED_STARTS):
            return f"uses the name {part!r}, which is reserved in an output folder"
        if not _PART.fullmatch(part):
            return (
                f"has the part {part!r}: use letters, digits and . _ + = , @ -, no . or - at the "
                f"beginning, no . at the end"
            )
    return None


@lru_cache(maxsize=256)
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    try:
        parsed = tuple(Formatter().parse(template))
    except ValueError as error:
        raise TemplateError(f"{error} (write {{{{ or }}}} for a literal brace)") from error
    for _, name, spec, conversion in parsed:
        if name is not None and (spec or conversion or not name.isidentifier()):
            raise TemplateError(
                f"braces may hold only a plain name: remove the format or index from {{{name}}}"
            )
    return tuple((literal, name) for literal, name, _, _ in parsed)


def _scalar(name: str, values: Mapping[str, ConfigValue]) -> ConfigValue:
    if name not in values:
        raise TemplateError(f"{{{name}}} has no value")
    value = values[name]
    if isinstance(value, list) or value is None:
        raise TemplateError(
            f"{{{name}}} is {text_of(value)}: a template can use single values only"
        )
    return value
