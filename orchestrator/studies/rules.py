"""Which keys and values a configuration may have: of an experiment, of a command, from `--set`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from merge.errors import UsageError
from merge.records.sweep import Axis
from merge.records.typed_words import TypingError, typed_any
from merge.wording import hint
from orchestrator.config.templates import LAUNCH_PLACEHOLDERS
from orchestrator.config.values import ConfigValue, text_of
from orchestrator.studies.kinds import Form, form_of
from orchestrator.studies.options import UnfitError, UnknownKeyError

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Rules(Protocol):
    """Which keys a configuration may have, and which values: of an experiment or of a command."""

    def check_key(self, key: str) -> None: ...

    def fitted(self, key: str, value: object) -> ConfigValue: ...

    def parsed(self, key: str, text: str) -> ConfigValue: ...


class FreeRules:
    """The rules of a command: any key that can be a variable's name, any single value or list."""

    def check_key(self, key: str) -> None:
        # A key becomes an environment variable, PAPERGRID_CONFIG_<KEY>.
        if not _KEY.fullmatch(key):
            raise UnknownKeyError(
                f"{key!r} is not a valid key: use letters, digits and _, and no digit first"
            )
        if key in LAUNCH_PLACEHOLDERS:
            raise UnknownKeyError(f"{{{key}}} is a path of the run: choose another name")

    def fitted(self, key: str, value: object) -> ConfigValue:
        self.check_key(key)
        items = value if isinstance(value, list) else [value]
        if not all(item is None or isinstance(item, str | int | float) for item in items):
            raise UnfitError("must be a single value or a list of them")
        if any(isinstance(item, float) and not math.isfinite(item) for item in items):
            raise UnfitError("must be a finite number")
        return value  # type: ignore[return-value]

    def parsed(self, _key: str, text: str) -> ConfigValue:
        try:
            return typed_any(text)
        except TypingError as error:
            raise UnfitError(str(error)) from error


class WrittenRules(FreeRules):
    """The rules of a command whose study gives values: another value is of the same type."""

    def __init__(self, written: Iterable[tuple[str, ConfigValue]]) -> None:
        values: dict[str, list[ConfigValue]] = {}
        for key, value in written:
            values.setdefault(key, []).append(value)
        self._forms: dict[str, Form | None] = {key: form_of(all_) for key, all_ in values.items()}

    def parsed(self, key: str, text: str) -> ConfigValue:
        form = self._forms.get(key)
        return super().parsed(key, text) if form is None else form.parsed(text)

    def fitted(self, key: str, value: object) -> ConfigValue:
        form = self._forms.get(key)
        if form is not None and value is not None and isinstance(value, list) != form.is_list:
            kind = "a list" if form.is_list else "a single value"
            raise UnfitError(f"must be {kind}, as the study gives it, not {value!r}")
        return super().fitted(key, value)


class AnyRules(FreeRules):
    """For the values of an axis whose name is already known to be wrong."""

    def check_key(self, key: str) -> None:
        pass


def parse_settings(
    settings: Mapping[str, ConfigValue], axes: Sequence[Axis], known: Iterable[str], rules: Rules
) -> dict[str, ConfigValue]:
    """What `--set` gave, in the options' types. UsageError with all that is wrong with it."""
    names = list(known)
    parsed: dict[str, ConfigValue] = {}
    problems = []
    for key, given in settings.items():
        try:
            parsed[key] = _setting(key, given, axes, names, rules)
        except UnfitError as error:
            problems.append(f"--set {key}={text_of(given)}: {error}")
    if problems:
        raise UsageError("\n".join(problems))
    return parsed


def _setting(
    key: str, given: ConfigValue, axes: Sequence[Axis], known: list[str], rules: Rules
) -> ConfigValue:
    if key in {axis.name for axis in axes}:
        raise UnfitError(f"{key} is an axis of this study: select its values with --where {key}=..")
    if key not in known:
        raise UnfitError(f"no such key{hint(key, [*known, *(axis.name for axis in axes)])}")
    return rules.fitted(key, rules.parsed(key, given) if isinstance(given, str) else given)
