"""`replicate prepare`: download, unpack, check and index the data sets of a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from replicate.cli import arguments as flags
from replicate.experiment_data import prepare_words, replace_process, root_words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_study(parser)
    parser.add_argument(
        "--datasets", nargs="+", metavar="DATASET", help="only these (default: all of the study)"
    )
    flags.add_data_root(parser)
    flags.add_cache_dir(parser)
    _add_download(parser.add_argument_group("download"))
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def _add_download(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--download", action="store_true", help="get the archives that are missing")
    group.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help="a server with the archives under their own names, tried first; may be repeated "
        "(further ones: $PAPERGRID_MIRRORS, separated by spaces)",
    )
    group.add_argument(
        "--manifest", type=Path, metavar="FILE", help="another list of archives (docs/data.md)"
    )
    group.add_argument(
        "--keep-archives", action="store_true", help="do not delete what was downloaded"
    )
    group.add_argument(
        "--tries", metavar="N", help="tries of one server without any progress (default: 5)"
    )
    group.add_argument(
        "--timeout", metavar="SECONDS", help="silence after which a try ends (default: 30)"
    )


def execute(arguments: argparse.Namespace) -> int:
    from replicate.api import cache_folder, plan

    where = {"dataset": flags.split(arguments.datasets)} if arguments.datasets else {}
    settings = flags.settings(arguments)
    planned = plan(arguments.study, where=where, settings=settings, debug=arguments.debug)
    words = [*prepare_words(planned.runs), *root_words(arguments.data_root)]
    words += ["--cache-dir", str(cache_folder(arguments.cache_dir))]
    words += [word for url in arguments.mirror for word in ("--mirror", url)]
    for name in ("manifest", "tries", "timeout"):
        value = getattr(arguments, name)
        words += [] if value is None else [f"--{name}", str(value)]
    for name in ("download", "keep_archives", "json"):
        words += [f"--{name.replace('_', '-')}"] if getattr(arguments, name) else []
    replace_process(words)
