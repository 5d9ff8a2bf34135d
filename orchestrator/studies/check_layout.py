"""Checks of a study as a whole: its templates, and the folders and cells they give its runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from merge.errors import StudyError
from merge.records.sweep import Axis, Run
from merge.wording import hint
from orchestrator.config.templates import (
    LAUNCH_PLACEHOLDERS,
    TemplateError,
    command_placeholders,
    path_problem,
    placeholders,
)
from orchestrator.config.values import text_of
from orchestrator.config.yaml_document import Notes
from orchestrator.studies.grid import expand
from orchestrator.studies.schema import StudyShape
from orchestrator.studies.study import Study

_MOST_RUNS = 100_000
_MOST_NOTED = 5


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of a study, given or by default."""

    cell: str
    run_path: str


def check_templates(
    shape: StudyShape, axes: Sequence[Axis], known: Iterable[str], notes: Notes
) -> Templates:
    """The templates of cells and paths; `known` are configuration keys beside the axes."""
    names = [axis.name for axis in axes]
    in_cell = [name for name in names if name != shape.average_over]
    keys = dict.fromkeys([*in_cell, *known])
    if shape.cell is not None:
        _check_template("cell", shape.cell, keys, notes)
    if shape.run_path is not None:
        keys = dict.fromkeys(["cell", *names, *known])
        _check_template("run_path", shape.run_path, keys, notes)
    return Templates(
        cell=shape.cell or ",".join(f"{name}={{{name}}}" for name in in_cell) or "all",
        run_path=shape.run_path or "/".join(f"{name}={{{name}}}" for name in names),
    )


def check_command(
    shape: StudyShape, axes: Sequence[Axis], known: Iterable[str], notes: Notes
) -> tuple[str, ...] | None:
    """The words of the command; their placeholders may name `known` keys and axes."""
    if shape.command is None:
        return None
    if not shape.command:
        notes.add(("command",), "is empty: write a list of words such as [bash, train.sh]")
    keys = [*(axis.name for axis in axes), *known, *LAUNCH_PLACEHOLDERS]
    words = []
    for index, word in enumerate(shape.command):
        if word is None or isinstance(word, list | dict):
            notes.add(("command", index), f"a word of the command is a single value{_quoted(word)}")
            continue
        words.append(text_of(word))
        for name in command_placeholders([text_of(word)]):
            # Without axes every placeholder would be unknown, a second message about one mistake.
            if axes and name not in keys:
                notes.add(
                    ("command", index),
                    f"{{{name}}} is neither an axis nor a key{hint(name, keys)} "
                    f"(literal braces are written twice)",
                )
    return tuple(words)


def _quoted(word: object) -> str:
    """What to write where `{name}` without quotes has become a mapping."""
    # YAML reads {lr} without quotes as a mapping with the key `lr`.
    if isinstance(word, dict) and list(word.values()) == [None]:
        return f': in quotes, "{{{next(iter(word))}}}"'
    return ""


def check_runs(study: Study, notes: Notes) -> tuple[Run, ...]:
    """All runs of `study`, after every check that needs them; empty where there are too many."""
    # Counted before the expansion, which would need memory for every run.
    num_points = prod(len(axis.choices) for axis in study.axes)
    if num_points > _MOST_RUNS:
        notes.add(("axes",), f"make {num_points} runs: at most {_MOST_RUNS} are planned at once")
        return ()
    try:
        runs = expand(study)
    except StudyError as error:
        notes.add(("run_path",), error.problems[0])
        return ()
    if not any(run.in_table for run in runs):
        notes.add(("exclude",), "takes out every run of the table: nothing would be trained")
    _note_some("run_path", _path_problems(runs), notes)
    _note_some("cell", _cell_problems(study, runs), notes)
    _note_some("command", _command_problems(study, runs), notes)
    for place, problems in _batch_problems(study, runs).items():
        _note_some(place, problems, notes)
    _note_some("resources", _node_problems(runs), notes)
    return runs


def _check_template(key: str, template: str, known: Iterable[str], notes: Notes) -> None:
    try:
        names = placeholders(template)
    except TemplateError as error:
        notes.add((key,), str(error))
        return
    for name in names:
        if name not in known:
            averaged = key == "cell" and name == notes.document.data.get("average_over")
            why = ": a cell averages over it" if averaged else hint(name, known)
            notes.add((key,), f"{{{name}}} cannot be used here{why}")


def _note_some(key: str, problems: Iterable[str], notes: Notes) -> None:
    # Runs of one cell often have the same problem.
    found = list(dict.fromkeys(problems))
    for message in found[:_MOST_NOTED]:
        notes.add((key,), message)
    if len(found) > _MOST_NOTED:
        notes.add((key,), f"and {len(found) - _MOST_NOTED} more like these")


def _path_problems(runs: Sequence[Run]) -> Iterator[str]:
    # Values bring no / into a path, so all paths are equally deep: none lies inside another.
    paths: dict[str, Run] = {}
    ids: dict[str, Run] = {}
    for run in runs:
        problem = path_problem(run.path)
        if problem:
            yield f"the folder {run.path!r} {problem}"
        # Some file systems take upper and lower case for one name.
        key = run.path.casefold()
        if key in paths:
            yield f"{_point(run)} and {_point(paths[key])} would share the folder {run.path!r}"
        elif run.run_id.casefold() in ids:
            other = ids[run.run_id.casefold()]
            yield f"the folders {run.path!r} and {other.path!r} give one run id, {run.run_id!r}"
        paths.setdefault(key, run)
        ids.setdefault(run.run_id.casefold(), run)


def _cell_problems(study: Study, runs: Sequence[Run]) -> Iterator[str]:
    cell_of: dict[str, str] = {}
    point_of: dict[str, str] = {}
    for run in runs:
        axes = {name: v for name, v in run.axes.items() if name != study.average_over}
        point = ", ".join(f"{name}={text_of(value)}" for name, value in axes.items())
        problem = path_problem(run.cell)
        if problem or "/" in run.cell:
            yield f"the cell {run.cell!r} {problem or 'has a /: a cell is one name'}"
        if cell_of.setdefault(point, run.cell) != run.cell:
            yield f"runs of {point} fall into the cells {cell_of[point]!r} and {run.cell!r}"
        if point_of.setdefault(run.cell.casefold(), point) != point:
            yield f"{point_of[run.cell.casefold()]} and {point} would share the cell {run.cell!r}"


def _command_problems(study: Study, runs: Sequence[Run]) -> Iterator[str]:
    names = set(command_placeholders(study.command or ())) - set(LAUNCH_PLACEHOLDERS)
    for run in runs:
        for name in sorted(names - run.config.keys()):
            yield f"{{{name}}} has no value in run {_point(run)}"


def _batch_problems(study: Study, runs: Sequence[Run]) -> dict[str, list[str]]:
    if study.experiment is None:
        return {}
    problems: dict[str, list[str]] = {}
    for run in runs:
        batch, devices = run.config.get("global_batch"), run.resources.devices_per_run
        # With one process there is one rank, however many devices it has.
        if isinstance(batch, int) and batch % devices and run.resources.launcher == "torchrun":
            problems.setdefault("resources", []).append(
                f"global_batch {batch} cannot be divided over devices_per_run {devices}"
            )
    return problems


def _node_problems(runs: Sequence[Run]) -> Iterator[str]:
    # By combination, not by run: a large grid has few of them.
    for nodes, devices, launcher in sorted(
        {(r.resources.nodes, r.resources.devices_per_run, r.resources.launcher) for r in runs}
    ):
        if nodes > 1 and launcher != "torchrun":
            yield f"nodes: {nodes} needs `launcher: torchrun`, which starts the ranks on each node"
        elif devices % nodes:
            yield (
                f"devices_per_run {devices} cannot be divided over {nodes} nodes: it counts the "
                f"ranks on all nodes together, such as devices_per_run: {nodes}"
            )


def _point(run: Run) -> str:
    return ", ".join(f"{name}={text_of(value)}" for name, value in run.axes.items())
