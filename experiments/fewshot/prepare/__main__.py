"""`python -m experiments.fewshot.prepare`: what `replicate prepare` starts. No torch."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from experiments.datasets.prepare.download import Patience
from experiments.datasets.prepare.manifest import load_manifest
from experiments.fewshot.episodes.source import Dataset, MaskVariant
from experiments.fewshot.prepare.prepare import Prepared, Request, prepare
from merge.errors import PapergridError
from merge.foreign_text import guarded_output

SCHEMA = 1


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the data sets that `argv` asks for; the exit code."""
    arguments = _parse(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    done: list[Prepared] = []
    code = 0
    try:
        request = _request(arguments)
        for dataset in dict.fromkeys(arguments.datasets):
            try:
                done.append(prepare(dataset, request))
            except PapergridError as error:
                # Another data set lies on another server, which may answer.
                print(f"replicate: {error}", file=sys.stderr)
                code = code or error.exit_code
    except PapergridError as error:
        print(f"replicate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("replicate: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    _show(done, as_json=arguments.json)
    return code


def _show(done: Sequence[Prepared], *, as_json: bool) -> None:
    if as_json:
        entries = [asdict(entry) for entry in done]
        print(json.dumps({"schema": SCHEMA, "datasets": entries}, indent=1))
        return
    for entry in done:
        print(f"{entry.dataset} is ready")


def _request(arguments: argparse.Namespace) -> Request:
    mirrors = os.environ.get("PAPERGRID_MIRRORS", "").split()
    return Request(
        data_root=arguments.data_root and arguments.data_root.absolute(),
        cache_dir=arguments.cache_dir,
        manifest=load_manifest(arguments.manifest),
        mask_variants=arguments.mask_variants,
        may_download=arguments.download,
        mirrors=(*arguments.mirror, *mirrors),
        keeps_archives=arguments.keep_archives,
        patience=Patience(tries=arguments.tries, timeout_s=arguments.timeout),
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prepare", usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("--datasets", nargs="+", required=True, choices=get_args(Dataset))
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument(
        "--mask-variants", nargs="+", default=["exact"], choices=get_args(MaskVariant)
    )
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--mirror", action="append", default=[])
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--keep-archives", action="store_true")
    parser.add_argument("--tries", type=_tries, default=Patience().tries)
    parser.add_argument("--timeout", type=_seconds, default=Patience().timeout_s)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def _tries(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
