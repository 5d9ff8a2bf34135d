"""The archives of MIT1003, and what a whole copy of it holds."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.datasets.prepare.manifest import Archive
from experiments.saliency.files import IMAGES, MAPS, RECORDINGS, FixationSource

_SERVER = "http://people.csail.mit.edu/tjudd/WherePeopleLook"

NUM_IMAGES = 1003
NUM_OBSERVERS = 15
LICENCE = "for research; cite Judd et al., Learning to predict where humans look, ICCV 2009"


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of the data set and the archive that holds it."""

    folder: str
    archive: Archive


def _part(folder: str, md5: str | None, unpacked_bytes: int) -> Part:
    file = f"{folder}.zip"
    archive = Archive(
        file=file,
        urls=(f"{_SERVER}/{file}",),
        md5=md5,
        unpacked_bytes=unpacked_bytes,
        # Archives made on a Mac hold a second tree of resource files beside it.
        inside=folder,
    )
    return Part(folder, archive)


# The digests are those that pysaliency checks. None is published of the maps: that archive is known
# by its own checksums and by the number of its files.
_IMAGES = _part(IMAGES, "0d7df8b954ecba69b6796e77b9afe4b6", 450_000_000)
_MAPS = _part(MAPS, None, 60_000_000)
_RECORDINGS = _part(RECORDINGS, "ea19d74ad0a0144428c53e9d75c2d71c", 300_000_000)


def parts(fixations: FixationSource) -> tuple[Part, ...]:
    """The parts that runs with these fixations need; the smoothed maps always."""
    return (_IMAGES, _MAPS) if fixations == "points" else (_IMAGES, _MAPS, _RECORDINGS)
