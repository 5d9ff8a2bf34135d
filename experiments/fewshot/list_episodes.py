"""Print test episode lists as JSON: `python -m experiments.fewshot.list_episodes`; no torch.

One entry for each combination of data set, fold, shot and test seed. Errors go to
stderr, with the exit code of their kind.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from experiments.fewshot.episodes.bam import Episode, episode_list_hash
from experiments.fewshot.episodes.lists import test_list
from experiments.fewshot.episodes.protocols import (
    DEFAULT_TEST_SEED,
    ProtocolName,
    Split,
    build_split,
)
from experiments.fewshot.episodes.source import NUM_FOLDS, Dataset, MaskVariant, Source, open_source
from merge.errors import PapergridError
from merge.foreign_text import guarded_output
from merge.storage.json_files import Json

SCHEMA = 1


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Print the lists that `argv` asks for; the exit code."""
    arguments = _parse(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        lists = list(_lists(arguments))
    except PapergridError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(json.dumps({"schema": SCHEMA, "lists": lists}, indent=1))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    # The person may have typed another command, whose usage is not this one's.
    parser = argparse.ArgumentParser(
        prog="list_episodes", usage=argparse.SUPPRESS, allow_abbrev=False
    )
    parser.add_argument("--datasets", nargs="+", required=True, choices=get_args(Dataset))
    parser.add_argument("--protocol", required=True, choices=get_args(ProtocolName))
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(NUM_FOLDS)))
    parser.add_argument("--shots", nargs="+", type=_count, default=[1])
    parser.add_argument("--test-seeds", nargs="+", type=_seed, default=[])
    parser.add_argument("--test-episodes", type=_count, default=1000)
    parser.add_argument("--min-area-px", type=_count)
    parser.add_argument("--mask-variant", default="exact", choices=get_args(MaskVariant))
    parser.add_argument("--first", type=int, default=5)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--cache-dir", type=Path, required=True)
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 or more")
    return int(text)


def _seed(text: str) -> int:
    # The generator that HSNet draws with takes no larger ones.
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number below 2**32")
    return int(text)


def _lists(arguments: argparse.Namespace) -> Iterator[dict[str, Json]]:
    seeds = arguments.test_seeds or [DEFAULT_TEST_SEED[arguments.protocol]]
    for dataset in arguments.datasets:
        source = open_source(
            dataset, arguments.data_root, arguments.cache_dir, arguments.mask_variant
        )
        for fold in arguments.folds:
            split = build_split(
                source, arguments.protocol, fold, "val", min_area_px=arguments.min_area_px
            )
            for shot in arguments.shots:
                for seed in seeds:
                    yield _describe(source, split, shot, seed, arguments)


def _describe(
    source: Source, split: Split, shot: int, seed: int, arguments: argparse.Namespace
) -> dict[str, Json]:
    episodes = test_list(split, shot=shot, num_episodes=arguments.test_episodes, seed=seed)
    return {
        "dataset": split.dataset,
        "protocol": split.protocol,
        "fold": split.fold,
        "shot": shot,
        "test_seed": seed,
        "test_episodes": len(episodes),
        "test_images": len(split.queries),
        "test_pairs": len(split.pairs),
        "pair_list": split.pair_list,
        "pair_list_hash": split.pair_list_hash,
        "min_area_px": split.min_area_px,
        "mask_variant": source.mask_variant,
        "data_fingerprint": source.fingerprint(),
        "episode_list_hash": episode_list_hash(episodes),
        "first": [_episode(episode) for episode in episodes[: arguments.first]],
    }


def _episode(episode: Episode) -> dict[str, Json]:
    return {
        "query": episode.query,
        "class_id": episode.class_id,
        "supports": list(episode.supports),
    }


if __name__ == "__main__":
    sys.exit(main())
