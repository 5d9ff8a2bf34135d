"""`python -m experiments.saliency.prepare`: what `replicate prepare` starts. No torch.

<data root>/archives/                        archives, put there by hand or downloaded
<data root>/MIT1003/{ALLSTIMULI,ALLFIXATIONMAPS,DATA}/
<data root>/.mit1003.lock                    held by the one process that makes parts
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from filelock import FileLock

from experiments.datasets.prepare.download import Patience, addresses, download, receipt
from experiments.datasets.prepare.integrity import mismatch
from experiments.datasets.prepare.unpack import unpack
from experiments.saliency.archives import LICENCE, Part, parts
from experiments.saliency.files import IMAGES, FixationSource
from experiments.saliency.open_source import Dataset, open_source
from experiments.saliency.source import fingerprint
from merge.errors import DataError, PapergridError, UsageError
from merge.foreign_text import guarded_output
from merge.storage.atomic import storage_errors

SCHEMA = 1


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the data sets that `argv` names; the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        arguments = _parse(argv)
        done = [_prepare(dataset, arguments) for dataset in dict.fromkeys(arguments.datasets)]
    except PapergridError as error:
        print(f"replicate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("replicate: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "datasets": done}, indent=1))
    else:
        print("\n".join(f"{entry['dataset']} is ready" for entry in done))
    return 0


def _prepare(dataset: Dataset, arguments: argparse.Namespace) -> dict[str, object]:
    """Make the folders of `dataset` and its index."""
    made = [] if dataset == "beacons" else _make_parts(arguments)
    found = {
        fixations: fingerprint(
            open_source(dataset, arguments.data_root, arguments.cache_dir, fixations=fixations)
        )
        for fixations in arguments.fixations
    }
    return {"dataset": dataset, "made": made, "fingerprints": found}


def _make_parts(arguments: argparse.Namespace) -> list[dict[str, str]]:
    root: Path | None = arguments.data_root
    if root is None:
        raise DataError("mit1003 needs a data root: name its folder with --data-root DIR")
    wanted = {part.folder: part for kind in arguments.fixations for part in parts(kind)}
    home = _home(root)
    absent = [part for part in wanted.values() if not (home / part.folder).is_dir()]
    if not absent:
        return []
    _check_obtainable(absent, root, arguments)
    with storage_errors(root):
        (root / "archives").mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".mit1003.lock"):
            return [_make(part, home, root, arguments) for part in absent]


def _home(root: Path) -> Path:
    """Where the folders lie, or are to be made."""
    places = (root, root / "mit1003")
    return next((place for place in places if (place / IMAGES).is_dir()), root / "MIT1003")


def _make(part: Part, home: Path, root: Path, arguments: argparse.Namespace) -> dict[str, str]:
    target, path = home / part.folder, root / "archives" / part.archive.file
    # Another process may have made it while this one waited for the lock.
    if not target.is_dir():
        _get(part, path, arguments)
        unpack(path, part.archive, target)
        if receipt(path).is_file() and not arguments.keep_archives:
            path.unlink()
            receipt(path).unlink()
    return {"part": str(target), "archive": part.archive.file}


def _get(part: Part, path: Path, arguments: argparse.Namespace) -> None:
    """The archive at `path`, checked or downloaded."""
    if not path.is_file():
        mirrors = (*arguments.mirror, *os.environ.get("PAPERGRID_MIRRORS", "").split())
        patience = Patience(tries=arguments.tries, timeout_s=arguments.timeout)
        download(part.archive, path.parent, addresses(part.archive, mirrors), patience)
        return
    difference = mismatch(path, part.archive)
    if difference is not None:
        raise DataError(
            f"{path} is not the published archive: {difference}. Delete it (a download that was "
            "cut off looks like this), then run the same command again"
        )


def _check_obtainable(absent: Sequence[Part], root: Path, arguments: argparse.Namespace) -> None:
    lost = [part for part in absent if not (root / "archives" / part.archive.file).is_file()]
    if arguments.download or not lost:
        return
    lines = [f"  {part.folder}: {part.archive.urls[0]}" for part in lost]
    raise DataError(
        "\n".join(
            [
                f"mit1003 is not complete below {root}; missing are",
                *lines,
                f"  add --download to get them, or put these files unchanged into {root}/archives "
                "and run `replicate prepare` again",
                f"  terms: {LICENCE}",
            ]
        )
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prepare", usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("--datasets", nargs="+", required=True, choices=get_args(Dataset))
    kinds: tuple[FixationSource, ...] = get_args(FixationSource)
    parser.add_argument("--fixations", nargs="+", default=["points"], choices=kinds)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--mirror", action="append", default=[])
    parser.add_argument("--manifest", type=_no_manifest)
    parser.add_argument("--keep-archives", action="store_true")
    parser.add_argument("--tries", type=int, default=Patience().tries)
    parser.add_argument("--timeout", type=float, default=Patience().timeout_s)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.tries < 1 or not 0 < arguments.timeout < 86400:
        raise UsageError("--tries is a number from 1, --timeout one of seconds above 0")
    return arguments


def _no_manifest(text: str) -> None:
    raise argparse.ArgumentTypeError(
        f"{text!r}: MIT1003's archives are fixed; a mirror is named with --mirror"
    )


if __name__ == "__main__":
    sys.exit(main())
