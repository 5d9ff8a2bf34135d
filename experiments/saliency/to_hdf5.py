"""`python -m experiments.saliency.to_hdf5`: what `replicate data mit1003-hdf5` starts. No torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from experiments.saliency.files import FileSource, FixationSource
from experiments.saliency.hdf5 import FILE_NAME, convert
from experiments.saliency.source import fingerprint
from merge.errors import PapergridError, UsageError
from merge.foreign_text import guarded_output

SCHEMA = 1


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Convert the copy of MIT1003 that `argv` names; the exit code."""
    arguments = _parse(argv)
    try:
        report = _convert(arguments)
    except PapergridError as error:
        print(f"replicate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, **report}, indent=1))
    else:
        print("{file}: {images} images, {fixations} fixations".format(**report))
    return 0


def _convert(arguments: argparse.Namespace) -> dict[str, object]:
    root, kind = arguments.data_root, arguments.fixations
    if kind not in get_args(FixationSource):
        raise UsageError(f"--fixations {kind}: choose {' or '.join(get_args(FixationSource))}")
    path: Path = arguments.output or root / FILE_NAME
    if path.exists():
        raise UsageError(f"{path} is there already: move it away, or name another --output FILE")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}")
    source = FileSource.open(root, arguments.cache_dir, kind)
    convert(source, path, kind)
    return {
        "file": str(path),
        "images": len(source.stimuli),
        "fixations": sum(len(each.points) for each in source.stimuli),
        "fingerprint": fingerprint(source),
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="to_hdf5", usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--fixations", default="points")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
