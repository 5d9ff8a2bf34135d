"""Templates with `{placeholders}`: names of cells and paths of runs, and what a path may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from string import Formatter

from merge.errors import UsageError
from orchestrator.config.values import ConfigValue, slug, text_of

LAUNCH_PLACEHOLDERS = ("run_dir", "run_spec", "attempt_dir")
"""What a launch knows beside the configuration (the run contract)."""

RESERVED_NAMES = frozenset(
    {
        "attempts",
        "checkpoints",
        "code",
        "logs",
        "merged_results.json",
        "panels",
        "replication_results.json",
        "report.csv",
        "report.html",
        "report.md",
        "report.tex",
        "result.json",
        "run.json",
        "shards",
        "slurm",
        "submissions",
        "sweep.json",
        "tensorboard",
    }
)
"""Names that the layout of an output folder needs for itself, at any depth."""

_RESERVED_STARTS = ("claim-", "request-", "result.aside-")
_PART = re.compile(r"[A-Za-z0-9_+=,@][A-Za-z0-9._+=,@-]*(?<!\.)")
_LONGEST = 200
_IN_COMMAND = re.compile(r"\{\{(?P<literal>\w+)\}\}|(?<!\$)\{(?P<name>[A-Za-z_]\w*)\}")


class TemplateError(ValueError):
    """A template that cannot be read, or that asks for a value that is not there."""


def placeholders(template: str) -> tuple[str, ...]:
    """Names in braces, in order. TemplateError for stray braces and anything but plain names."""
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
    """`template` filled for a folder's name: what does not belong in one becomes a dash."""
    words = []
    for literal, name in _parts(template):
        words.append(literal)
        if name is not None:
            words.append(slug(_scalar(name, values)))
    return "".join(words)


def path_problem(path: str) -> str | None:
    """Why `path` cannot be a folder below the output folder; None where it can."""
    if len(path) > _LONGEST:
        return f"is {len(path)} characters long: at most {_LONGEST} are safe on every file system"
    for part in path.split("/"):
        if part.casefold() in RESERVED_NAMES or part.casefold().startswith(_RESERVED_STARTS):
            return f"uses the name {part!r}, which the output folder needs for itself"
        if not _PART.fullmatch(part):
            return (
                f"has the part {part!r}: a part is made of letters, digits and . _ + = , @ -, does "
                f"not begin with . or -, and does not end with ."
            )
    return None


@lru_cache(maxsize=256)
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    try:
        parsed = tuple(Formatter().parse(template))
    except ValueError as error:
        raise TemplateError(f"{error} (a brace that is meant is written twice)") from error
    for _, name, spec, conversion in parsed:
        if name is not None and (spec or conversion or not name.isidentifier()):
            raise TemplateError(f"only plain names stand in braces, not {{{name}}} with more to it")
    return tuple((literal, name) for literal, name, _, _ in parsed)


def _scalar(name: str, values: Mapping[str, ConfigValue]) -> ConfigValue:
    if name not in values:
        raise TemplateError(f"{{{name}}} has no value")
    value = values[name]
    if isinstance(value, list) or value is None:
        raise TemplateError(f"{{{name}}} is {text_of(value)}: only a single value can be filled in")
    return value
