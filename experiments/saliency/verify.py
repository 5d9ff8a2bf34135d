"""`python -m experiments.saliency.verify`: what `replicate data verify` starts. No torch.

Exit codes: 0 all is well, 3 something is missing, 1 something is wrong (or both), 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.datasets.verify.command import add_common_flags, run_checks
from experiments.datasets.verify.findings import Findings
from experiments.saliency.archives import NUM_IMAGES, NUM_OBSERVERS
from experiments.saliency.files import (
    IMAGES,
    MAPS,
    RECORDINGS,
    find_root,
    image_paths,
    observer_folders,
)
from experiments.saliency.gaze import read_fixations
from experiments.saliency.hdf5 import FILE_NAME, Hdf5Source
from experiments.saliency.points import Size
from experiments.saliency.source import decoded, read_file, read_rgb
from merge.errors import PapergridError
from merge.foreign_text import guarded_output

_ADVICE = (
    "to correct it: move the folder of what is wrong away, then `replicate prepare "
    "--study saliency --data-root DIR --download`"
)


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Verify the copy of MIT1003 that `argv` names, print what is found; the exit code."""
    parser = argparse.ArgumentParser(prog="verify", usage=argparse.SUPPRESS, allow_abbrev=False)
    add_common_flags(parser, ("mit1003",), has_manifest=False)
    arguments = parser.parse_args(argv)

    def check(dataset: str, root: Path) -> Findings:
        findings = Findings(dataset, arguments.limit)
        try:
            _verify(root, findings, is_deep=arguments.deep)
        except PapergridError as error:
            findings.missing("layout", str(error))
        return findings

    return run_checks(arguments, check, lambda _: _ADVICE)


def _verify(root: Path, findings: Findings, *, is_deep: bool) -> None:
    if (root / FILE_NAME).is_file() and not (root / IMAGES).is_dir():
        _verify_hdf5(root / FILE_NAME, findings, is_deep=is_deep)
    else:
        _verify_files(find_root(root), findings, is_deep=is_deep)


def _verify_files(root: Path, findings: Findings, *, is_deep: bool) -> None:
    images = image_paths(root)
    findings.expect_count("images", len(images), NUM_IMAGES)
    sizes = {image: _size(image, findings) for image in images if is_deep}
    for image in images:
        for ending in ("fixPts", "fixMap"):
            path = root / MAPS / f"{image.stem}_{ending}.jpg"
            if not path.is_file():
                findings.missing(ending, f"{path} is missing")
            elif (size := sizes.get(image)) and _size(path, findings) not in (None, size):
                findings.wrong("size", f"{path} has not the size of its image")
    if (root / RECORDINGS).is_dir():
        _verify_recordings(root, images, sizes, findings)


def _verify_recordings(
    root: Path, images: Sequence[Path], sizes: Mapping[Path, Size | None], findings: Findings
) -> None:
    """Count the recordings; those of images with a known size are read too."""
    folders = observer_folders(root)
    findings.expect_count("observers", len(folders), NUM_OBSERVERS)
    for folder in folders:
        for image in images:
            path = folder / f"{image.stem}.mat"
            if not path.is_file():
                findings.missing("recording", f"{path} is missing")
            elif size := sizes.get(image):
                _count_fixations(path, size, findings)


def _count_fixations(path: Path, size: Size, findings: Findings) -> None:
    try:
        found = len(read_fixations(path, size))
    except PapergridError as error:
        findings.wrong("recording", str(error))
        return
    findings.checked["fixations"] = findings.checked.get("fixations", 0) + found


def _verify_hdf5(path: Path, findings: Findings, *, is_deep: bool) -> None:
    try:
        source = Hdf5Source.open(path)
    except PapergridError as error:
        findings.wrong("file", str(error))
        return
    findings.expect_count("images", len(source.stimuli), NUM_IMAGES)
    findings.checked["fixations"] = sum(len(each.points) for each in source.stimuli)
    for index in range(len(source.stimuli) if is_deep else 1):
        try:
            size = read_rgb(source, index).shape[1::-1]
            smooth = decoded(source.map_file(index), f"the map of image {index}", "L")
        except PapergridError as error:
            findings.wrong("image", str(error))
            continue
        if smooth.size != size:
            findings.wrong("size", f"the map of image {index} has not the size of its image")


def _size(path: Path, findings: Findings) -> Size | None:
    try:
        return decoded(read_file(path), str(path), "L").size
    except PapergridError as error:
        findings.wrong("image", str(error))
        return None


if __name__ == "__main__":
    sys.exit(main())
