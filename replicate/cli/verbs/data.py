"""`replicate data ACTION`: look into a data set, through processes of the experiments' own."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from replicate.cli.arguments import add_cache_dir, add_data_root, split
from replicate.experiment_data import become, start
from replicate.views.table import align

_LIST_EPISODES = "experiments.fewshot.list_episodes"
_VERIFY = "experiments.fewshot.verify"
_COLUMNS = (
    *("dataset", "protocol", "fold", "shot", "test_seed", "test_images", "test_pairs"),
    *("pair_list", "pair_list_hash", "test_episodes", "episode_list_hash"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    help_text = "list the test episodes of a protocol, and their hash as it stands in results"
    _add_episodes(
        actions.add_parser(
            "episodes", help=help_text, description=help_text + ".", allow_abbrev=False
        )
    )
    help_text = "check a copy on disk: exit code 0 all is well, 3 parts are missing, 1 damaged"
    _add_verify(
        actions.add_parser(
            "verify", help=help_text, description=help_text + ".", allow_abbrev=False
        )
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--datasets", nargs="+", required=True, metavar="DATASET", help="pascal5i, coco20i"
    )
    add_data_root(parser, required=True)
    parser.add_argument(
        "--deep", action="store_true", help="decode every photograph, draw every COCO label map"
    )
    parser.add_argument(
        "--manifest", type=Path, metavar="FILE", help="counts of a subset (docs/data.md)"
    )
    parser.add_argument("--limit", metavar="N", help="problems to list of a kind (default: 10)")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def _add_episodes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--protocol", required=True, metavar="NAME", help="bam or hsnet")
    parser.add_argument(
        "--datasets", nargs="+", required=True, metavar="DATASET", help="such as pascal5i"
    )
    parser.add_argument("--folds", nargs="+", metavar="FOLD", help="(default: 0 1 2 3)")
    parser.add_argument("--shots", nargs="+", metavar="SHOT", help="(default: 1)")
    parser.add_argument(
        "--test-seeds", nargs="+", metavar="SEED", help="(default: the protocol's own)"
    )
    parser.add_argument("--test-episodes", metavar="N", help="length of a list (default: 1000)")
    parser.add_argument(
        "--min-area-px", metavar="PX", help="area limit instead of the protocol's rule or lists"
    )
    parser.add_argument(
        "--mask-variant", metavar="NAME", help="COCO's label maps: exact or field (default: exact)"
    )
    parser.add_argument("--first", metavar="N", help="episodes to show of each list (default: 5)")
    add_data_root(parser)
    add_cache_dir(parser)
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """The exit code of the process that does it; its errors go to stderr as they are."""
    if arguments.action == "verify":
        become([_VERIFY, *_verify_words(arguments)])
    return _episodes(arguments)


def _verify_words(arguments: argparse.Namespace) -> Iterable[str]:
    yield from ("--datasets", *split(arguments.datasets), "--data-root", str(arguments.data_root))
    for name in ("manifest", "limit"):
        value = getattr(arguments, name)
        yield from () if value is None else (f"--{name}", str(value))
    for name in ("deep", "json"):
        yield from (f"--{name}",) if getattr(arguments, name) else ()


def _episodes(arguments: argparse.Namespace) -> int:
    done = start([_LIST_EPISODES, *_words(arguments)], stdout=subprocess.PIPE)
    if done.returncode == 0:
        print(done.stdout.rstrip() if arguments.json else "\n".join(_lines(done.stdout)))
    return done.returncode


def _words(arguments: argparse.Namespace) -> Iterable[str]:
    from replicate.api import cache_folder

    yield from ("--cache-dir", str(cache_folder(arguments.cache_dir)))
    names = ("protocol", "datasets", "folds", "shots", "test_seeds", "test_episodes")
    for name in (*names, "min_area_px", "mask_variant", "first", "data_root"):
        value = getattr(arguments, name)
        if value is not None:
            yield f"--{name.replace('_', '-')}"
            yield from split(value) if isinstance(value, list) else [str(value)]


def _lines(text: str) -> Iterable[str]:
    lists: list[Mapping[str, Any]] = json.loads(text)["lists"]
    yield from align(
        [list(_COLUMNS), *([str(entry[name]) for name in _COLUMNS] for entry in lists)], left=2
    )
    for entry in lists:
        if entry["first"]:
            yield f"\n{entry['dataset']} fold {entry['fold']} {entry['shot']}-shot, first episodes:"
        for episode in entry["first"]:
            supports = " ".join(episode["supports"])
            yield f"  {episode['query']} class {episode['class_id']} from {supports}"
