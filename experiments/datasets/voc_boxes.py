"""Boxes of PASCAL VOC: one XML file an image, lists of names in ImageSets/Main.

VOC counts pixels from 1 and includes the last one: a box from xmin to xmax is the span
[xmin - 1, xmax) here. Objects that are marked `difficult` are neither trained nor missed.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from experiments.datasets.class_names import class_name
from experiments.datasets.coco_boxes import BoxAnnotations, BoxImage, BoxObject, Split
from experiments.datasets.coco_checks import size_problem
from experiments.datasets.layouts import read_names
from merge.errors import DataError

NUM_CLASSES = 20
# The data set's own files write names of two words as one.
VOC_NAMES = {
    number: class_name("pascal5i", number).replace(" ", "") for number in range(1, NUM_CLASSES + 1)
}
"""Class names by id, in alphabetical order, as in VOC's own files."""
_IDS = {name: number for number, name in VOC_NAMES.items()}


def open_voc_boxes(root: Path, split: Split) -> BoxAnnotations:
    """The boxes of a split of the VOC folder `root`. DataError names what is missing or wrong."""
    names = read_names(root / "ImageSets" / "Main" / f"{split}.txt")
    images = tuple(
        _image(number, name, root / "Annotations" / f"{name}.xml")
        for number, name in enumerate(names, start=1)
    )
    return BoxAnnotations(root / "JPEGImages", images, VOC_NAMES)


def _image(number: int, name: str, path: Path) -> BoxImage:
    try:
        tree = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{path} cannot be read ({error}): restore it from the data set") from error
    try:
        height, width = (int(_text(tree, f"size/{side}")) for side in ("height", "width"))
        if problem := size_problem(height, width):
            raise ValueError(problem)
        objects = tuple(_object(entry) for entry in tree.findall("object"))
    except ValueError as error:
        raise DataError(f"{path} is no annotation of VOC ({error})") from error
    return BoxImage(number, f"{name}.jpg", height, width, objects)


def _object(entry: ElementTree.Element) -> BoxObject:
    name = _text(entry, "name")
    if name not in _IDS:
        raise ValueError(f"the class {name!r}, which VOC does not have")
    x0, y0, x1, y1 = (float(_text(entry, f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
    width, height = x1 - x0 + 1, y1 - y0 + 1
    if width < 1 or height < 1:
        raise ValueError(f"a box from {x0:g}, {y0:g} to {x1:g}, {y1:g}")
    is_difficult = (entry.findtext("difficult") or "0").strip() == "1"
    return BoxObject(_IDS[name], (x0 - 1, y0 - 1, width, height), width * height, is_difficult)


def _text(entry: ElementTree.Element, path: str) -> str:
    text = entry.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return text.strip()
