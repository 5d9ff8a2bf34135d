"""The embedded data set shapes5i: 20 classes of textured shapes in VOC layout, made on first use.

A class is one shape, one texture and one family of hues. Each shape, texture and family belongs
to exactly two classes of different folds, and no two classes share more than one of the three:
none of them alone separates the classes, and a novel class is a new combination of what the
base classes have.

    shapes5i-<version>/
      JPEGImages/<name>.jpg                      RGB
      SegmentationClassAug/<name>.png            0 ground, 1..20 class, 255 boundary
      ImageSets/Segmentation/{train,val}.txt     one name a line
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.datasets.generated import ensure_generated
from experiments.datasets.scenes import Look, draw_scene
from experiments.runtime.seeds import numpy_generator

VERSION = 1
"""Raised with every change of what is drawn, so that two generators never share a folder."""

_ROOT_SEED = 5
_OBJECTS_PER_SCENE = (3, 3, 3, 3, 2, 2, 2, 1, 1)
"""The scenes of one round, which shows each of the 20 classes once."""
_ROUNDS = {"train": 30, "val": 12}

_SHAPES = (
    *("disc", "square", "triangle", "star", "cross"),
    *("ring", "ellipse", "hexagon", "crescent", "hourglass"),
)
_TEXTURES = (
    *("striped", "dotted", "checked", "plain", "zigzag"),
    *("latticed", "cratered", "bricked", "rippled", "diced"),
)
_HUES = ("red", "orange", "yellow", "lime", "green", "cyan", "azure", "blue", "purple", "pink")

SplitName = Literal["train", "val"]

_IMAGES = "JPEGImages"
_MASKS = "SegmentationClassAug"


@dataclass(frozen=True, slots=True)
class ShapeClass:
    """One of the 20 classes; `name` reads like "red striped disc"."""

    class_id: int
    name: str
    look: Look


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture before it is drawn: its name and which classes it shows, back to front."""

    name: str
    class_ids: tuple[int, ...]


def _shape_class(index: int) -> ShapeClass:
    # Folds 0|1, 2|3 differ in shape; 0|2, 1|3 in texture; the hues pair folds 0|3 and 1|2.
    fold, i = divmod(index, 5)
    shape = _SHAPES[i + 5 * (fold % 2)]
    texture = _TEXTURES[(i + fold) % 5 + 5 * (fold // 2)]
    hue = (2 * i + fold) % 5 * 2 + int(fold in {1, 2})
    look = Look(shape=shape, texture=texture, hue=hue / 10)
    return ShapeClass(index + 1, f"{_HUES[hue]} {texture} {shape}", look)


CLASSES = tuple(_shape_class(index) for index in range(20))


def plan_scenes(split: SplitName) -> tuple[Scene, ...]:
    """The scenes of a split: every class in exactly 30 (train) or 12 (val) of them."""
    rng = numpy_generator(_ROOT_SEED, "shapes5i", VERSION, split, "plan")
    scenes: list[Scene] = []
    for _ in range(_ROUNDS[split]):
        deck = [int(class_id) for class_id in rng.permutation(len(CLASSES)) + 1]
        for count in rng.permutation(_OBJECTS_PER_SCENE):
            hand, deck = deck[:count], deck[count:]
            scenes.append(Scene(f"{split}_{len(scenes):04d}", tuple(hand)))
    return tuple(scenes)


def render(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """RGB image HW3 and label map HW of a scene; a function of the scene's name and classes."""
    rng = numpy_generator(_ROOT_SEED, "shapes5i", VERSION, "scene", scene.name)
    return draw_scene({c: CLASSES[c - 1].look for c in scene.class_ids}, rng)


def ensure_shapes5i(folder: Path) -> Path:
    """The data set's root below `folder`, made there first where it is absent (some seconds).

    StorageError where the file system refuses.
    """
    return ensure_generated(folder / f"shapes5i-{VERSION}", _write_dataset)


def _write_dataset(root: Path) -> None:
    lists = root / "ImageSets" / "Segmentation"
    for folder in (root / _IMAGES, root / _MASKS, lists):
        folder.mkdir(parents=True)
    splits: tuple[SplitName, ...] = ("train", "val")
    for split in splits:
        scenes = plan_scenes(split)
        for scene in scenes:
            write_scene(root, scene)
        names = "".join(f"{scene.name}\n" for scene in scenes)
        (lists / f"{split}.txt").write_text(names, encoding="utf-8")


def write_scene(root: Path, scene: Scene) -> None:
    """Draw a scene into the VOC folders below `root`."""
    image_HW3, labels_HW = render(scene)
    photograph = Image.fromarray(image_HW3)
    photograph.save(root / _IMAGES / f"{scene.name}.jpg", quality=92, subsampling=0)
    mask = Image.fromarray(labels_HW)
    mask.putpalette(voc_palette())
    mask.save(root / _MASKS / f"{scene.name}.png")


def voc_palette() -> list[int]:
    """R, G, B of labels 0..255 as VOC colours them: three bits of a label fill R, G, B a turn."""
    return [
        sum((label >> (3 * turn + channel) & 1) << (7 - turn) for turn in range(3))
        for label in range(256)
        for channel in range(3)
    ]
