"""`python -m experiments.fewshot.check`: check quickly that the data of the runs is there.

Looks at folders, lists and file names, opens no image and builds nothing; `replicate` starts it
once before a sweep, so that a missing part is one message and not one failed run after another.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.datasets.layouts import (
    examples,
    find_coco20i,
    find_pascal5i,
    no_train_list,
    read_names,
)
from merge.errors import DataError, PapergridError
from merge.foreign_text import guarded_output

_MEND = (
    "`replicate prepare --datasets {dataset} --data-root {root} --download` gets it; to train on "
    "what is there, choose with --datasets"
)


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Check the data sets in `argv`, print all that is missing; return the exit code."""
    arguments = _parse(argv)
    code = 0
    for dataset in arguments.datasets:
        try:
            check(dataset, arguments.data_root, arguments.protocols)
        except PapergridError as error:
            print(f"replicate: {dataset}: {error}", file=sys.stderr)
            print(
                f"  {_MEND.format(dataset=dataset, root=arguments.data_root or 'DIR')}",
                file=sys.stderr,
            )
            code = error.exit_code
    return code


def check(dataset: str, data_root: Path | None, protocols: Iterable[str]) -> None:
    """DataError where `dataset` lacks a folder, a list, or an image that a list names."""
    if dataset == "shapes5i":
        return
    if data_root is None:
        raise DataError("it needs a data root: name its folder with --data-root DIR")
    if dataset == "pascal5i":
        _check_pascal5i(data_root, protocols)
    else:
        for folder in find_coco20i(data_root).photographs.values():
            _names_in(folder, ".jpg")


def _check_pascal5i(data_root: Path, protocols: Iterable[str]) -> None:
    layout = find_pascal5i(data_root)
    if "bam" in protocols and not layout.train_lists:
        raise no_train_list(layout)
    listed = {n for path in (*layout.train_lists, layout.val_list) for n in read_names(path)}
    for folder, suffix in ((layout.masks, ".png"), (layout.photographs, ".jpg")):
        missing = listed - _names_in(folder, suffix)
        if missing:
            raise DataError(f"{folder} lacks {examples(missing)} of {len(listed):,} listed images")


def _names_in(folder: Path, suffix: str) -> set[str]:
    names = {path.stem for path in folder.iterdir() if path.suffix == suffix}
    if not names:
        raise DataError(f"{folder} holds no {suffix} file")
    return names


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="check", usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument(
        "--datasets", nargs="+", required=True, choices=("pascal5i", "coco20i", "shapes5i")
    )
    parser.add_argument("--protocols", nargs="+", default=[])
    parser.add_argument("--data-root", type=Path)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
