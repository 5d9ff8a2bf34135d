"""The merged view as text, and the results in a view that was read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.config_hash import hash_problem
from merge.records.plan_json import plan_from_json
from merge.records.result import check_metrics, is_code_list
from merge.records.sweep import refuse_foreign_schema
from merge.results.entries import (
    Entry,
    Problem,
    entry_from_json,
    unique_entries,
    well_formed,
)
from merge.results.legacy import LegacyEntry
from merge.results.unite import Contribution
from merge.results.usable import split_usable
from merge.storage.json_files import Json, compact_text, is_finite_number

_SUFFIX = "the file was changed by hand or is damaged: merge its output folders again"


def view_bytes(document: Mapping[str, Any]) -> bytes:
    """The text of a merged view: a line for each value of a cell, run and problem."""
    # Not json.dumps with indent: one line a value keeps the file of 10,000 runs readable, and a
    # diff of two views short.
    parts = []
    for key, value in document.items():
        if key == "results":
            text = _block(f"{_key(cell)}: {_nested(view, ' ' * 3)}" for cell, view in value.items())
        elif key == "plan" and value is not None:
            text = _nested_plan(value)
        elif key in ("runs", "over_both"):
            text = _block(f"{_key(name)}: {_text(entry)}" for name, entry in value.items())
        elif key == "evaluations":
            text = _block(f"{_key(name)}: {_indented(view)}" for name, view in value.items())
        elif isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"  {_text(entry)}" for entry in value) + "\n ]"
        else:
            text = _text(value)
        parts.append(f" {_key(key)}: {text}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode("utf-8")


def is_view(document: Mapping[str, Any]) -> bool:
    """Whether `document` says that it is a merged view of ours with all that it was made of."""
    return "runs" in document and "plan" in document


def contribution_of_view(path: Path, document: Mapping[str, Any]) -> Contribution:
    """What a merged view contributes; RecordError, which names `path`, where it is unusable."""
    refuse_foreign_schema(path, document)
    try:
        plan = document["plan"]
        sweep = None if plan is None else plan_from_json(plan, document["published"])
        part = Contribution(
            sweep=sweep,
            entries={
                run_id: unique_entries(entry_from_json(run_id, entry) for entry in entries)
                for run_id, entries in document["runs"].items()
            },
            legacy=[LegacyEntry.from_json(entry) for entry in document["legacy"]],
            problems=[_problem(entry) for entry in document["quarantined"]],
            aside=[_problem(entry) for entry in document["aside"]],
            evaluations={
                name: contribution_of_view(path / name, view)
                for name, view in document.get("evaluations", {}).items()
            },
        )
        _check(path, part)
        part = _without_unusable(part)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise RecordError(
            f"{path} is not a merged view of this version ({type(error).__name__}: {error}); "
            f"{_SUFFIX}"
        ) from error
    return part


def _without_unusable(part: Contribution) -> Contribution:
    """`part`; results outside of a metric's range, of an older version, are problems in it."""
    if part.sweep is None:
        return part
    found = [entry for entries in part.entries.values() for entry in entries]
    usable, problems = split_usable(found, part.sweep.manifest)
    if not problems:
        return part
    entries: dict[str, list[Entry]] = {}
    for entry in usable:
        entries.setdefault(entry.run_id, []).append(entry)
    return replace(part, entries=entries, problems=(*part.problems, *problems))


def _check(path: Path, part: Contribution) -> None:
    # A view can be edited by hand: each result is held to the plan that the same file carries.
    planned = {} if part.sweep is None else {r.run_id: r.config_hash for r in part.sweep.runs}
    for run in part.sweep.runs if part.sweep else ():
        problem = hash_problem(run, part.sweep) if part.sweep and run.run_id in part.entries else ""
        if problem:
            raise RecordError(f"{path}: {problem}")
    for run_id, entries in part.entries.items():
        for entry in entries:
            if planned.get(run_id) != entry.config_hash:
                raise RecordError(
                    f"{path} has a result of {run_id} that its own plan does not have; {_SUFFIX}"
                )
            check_metrics(path, entry.metrics)
            if not _is_sound(entry):
                raise RecordError(f"{path} has a damaged result of {run_id}; {_SUFFIX}")
            if part.sweep is not None and part.sweep.metric not in entry.metrics:
                raise RecordError(f"{path}: {run_id} lacks {part.sweep.metric!r}; {_SUFFIX}")
    for legacy in part.legacy:
        check_metrics(path, legacy.metrics)


def _is_sound(entry: Entry) -> bool:
    mappings = (entry.traits, entry.measured, entry.deviations)
    return (
        isinstance(entry.token, str)
        and is_finite_number(entry.started)
        and is_finite_number(entry.finished)
        and (entry.trained_s is None or is_finite_number(entry.trained_s))
        and all(isinstance(mapping, dict) for mapping in mappings)
        and (not entry.earlier_code or is_code_list(entry.earlier_code))
        # Statistics index into `measured` without asking: a shape that they do not know must stop
        # here.
        and entry.measured == well_formed(entry.measured)
    )


def _problem(document: Mapping[str, Any]) -> Problem:
    fields = {key: value for key, value in document.items() if key != "result"}
    entry = document.get("result")
    return Problem(
        **fields,
        entry=None if entry is None else entry_from_json(document["run_id"], entry),
    )


def _nested_plan(plan: Mapping[str, Any]) -> str:
    lines = [f"{_key(key)}: {_text(value)}" for key, value in plan.items() if key != "runs"]
    runs = "[\n" + ",\n".join(f"   {_text(run)}" for run in plan["runs"]) + "\n  ]"
    return _block([*lines, f'"runs": {runs}'])


def _nested(value: Mapping[str, Any], indent: str) -> str:
    lines = ",\n".join(f"{indent}{_key(key)}: {_text(entry)}" for key, entry in value.items())
    return "{\n" + lines + "\n" + indent[:-1] + "}"


def _indented(view: Mapping[str, Any]) -> str:
    """A merged view inside of another one."""
    return view_bytes(view).decode("utf-8").rstrip().replace("\n", "\n   ")


def _block(lines: Iterable[str]) -> str:
    text = ",\n".join(f"  {line}" for line in lines)
    return "{\n" + text + "\n }" if text else "{}"


# The same few names stand in every cell: 50,000 keys of 10,000 results, each 1 us to encode.
@lru_cache(maxsize=256)
def _key(name: str) -> str:
    return _text(name)


def _text(value: Json) -> str:
    return compact_text(value)
