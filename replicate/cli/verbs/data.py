"""`replicate data ACTION`: inspect a data set with a module of an experiment.

Experiments declare their actions, with flags and tables, in a file `actions.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from merge.errors import UsageError
from replicate.catalogue import ActionFlag, ActionTable, DataAction, data_actions
from replicate.cli.arguments import add_cache_dir, add_data_root, split
from replicate.experiment_data import replace_process, start
from replicate.views.columns import align


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, action in data_actions().items():
        added = actions.add_parser(
            name, help=action.help, description=action.help + ".", allow_abbrev=False
        )
        _add_flags(added, action)


def _add_flags(parser: argparse.ArgumentParser, action: DataAction) -> None:
    for name, flag in action.flags.items():
        _add_flag(parser, name, flag)
    if action.data_root != "none":
        add_data_root(parser, required=action.data_root == "needed")
    if action.has_cache:
        add_cache_dir(parser)
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def _add_flag(parser: argparse.ArgumentParser, name: str, flag: ActionFlag) -> None:
    # argparse formats helps with %: what a file of actions says is plain text.
    words = flag.help.replace("%", "%%")
    if flag.switch:
        parser.add_argument(f"--{name}", action="store_true", help=words)
        return
    many = {"nargs": "+"} if flag.many else {}
    parser.add_argument(
        f"--{name}",
        required=flag.needed,
        metavar=flag.metavar,
        help=words,
        **many,
    )


def execute(arguments: argparse.Namespace) -> int:
    """The exit code of the process that does it; its errors go to stderr as they are."""
    action = _chosen(data_actions()[arguments.action], arguments)
    module = f"experiments.{action.experiment}.{action.module}"
    words = ["-m", module, *_words(arguments, action)]
    # Nothing is left to do here: the module replaces this process, and gets Ctrl-C itself.
    if action.table is None:
        replace_process([*words, *(["--json"] if arguments.json else [])])
    done = start(words, stdout=subprocess.PIPE)
    if done.returncode == 0:
        text = done.stdout
        print(text.rstrip() if arguments.json else "\n".join(_lines(text, action.table)))
    return done.returncode


def _chosen(action: DataAction, arguments: argparse.Namespace) -> DataAction:
    """The action itself, or that of the experiment whose data sets are named."""
    if not action.parts:
        return action
    one = action.for_datasets(list(split(arguments.datasets)))
    for name in action.flags.keys() - one.flags.keys():
        if getattr(arguments, name.replace("-", "_")):
            raise UsageError(f"--{name} is no flag for {' '.join(arguments.datasets)}")
    return one


def _words(arguments: argparse.Namespace, action: DataAction) -> Iterable[str]:
    from replicate.api import cache_folder

    if action.has_cache:
        yield from ("--cache-dir", str(cache_folder(arguments.cache_dir)))
    for name in (*action.flags, *(["data-root"] if action.data_root != "none" else [])):
        value = getattr(arguments, name.replace("-", "_"))
        if value is True:
            yield f"--{name}"
        # Not truth: 0 and an empty text are values.
        elif value not in (None, False):
            yield f"--{name}"
            yield from split(value) if isinstance(value, list) else [str(value)]


def _lines(text: str, table: ActionTable) -> Iterable[str]:
    rows: Sequence[Mapping[str, Any]] = json.loads(text)[table.rows]
    columns = table.columns
    yield from align(
        [list(columns), *([str(row[name]) for name in columns] for row in rows)], left=2
    )
    for row in rows:
        if row[table.items]:
            yield "\n" + _filled(table.heading, row)
        for item in row[table.items]:
            yield "  " + _filled(table.item, item)


def _filled(template: str, values: Mapping[str, Any]) -> str:
    return template.format_map(
        {key: " ".join(map(str, v)) if isinstance(v, list) else v for key, v in values.items()}
    )
