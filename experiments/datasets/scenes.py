"""Pictures of textured shapes on textured grounds, drawn from a random generator alone.

A scene is drawn back to front: a ground, then each object with a soft shadow. Coordinates of a
shape are (u, v) in its own frame, turned and scaled so that it just fits the unit disc.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from experiments.datasets.labels import IGNORE, Bytes

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_OVERSAMPLING = 3
_SIDE_RANGE_PX = (160, 201)
_AREA_RANGE_PX = (2700.0, 5200.0)
_PLACEMENTS_TRIED = 40
_SHADOW_REACH_PX = 16.0


@dataclass(frozen=True, slots=True)
class Look:
    """What the objects of one class have in common."""

    shape: str
    texture: str
    hue: float
    """On the colour circle, in [0, 1)."""


@dataclass(frozen=True, slots=True)
class _Placed:
    row: float
    column: float
    radius: float


def draw_scene(
    objects: Mapping[int, Look],
    rng: np.random.Generator,
    *,
    side_range_px: tuple[int, int] = _SIDE_RANGE_PX,
    area_range_px: tuple[float, float] = _AREA_RANGE_PX,
) -> tuple[Bytes, Bytes]:
    """An RGB image HW3 and its label map HW with one object of each class id in `objects`.

    Labels are 0 for the ground, the class id inside an object, 255 on boundaries.
    """
    height, width = (int(side) for side in rng.integers(*side_range_px, size=2))
    canvas_HW3 = _ground(height, width, rng)
    labels_HW = np.zeros((height, width), np.uint8)
    placed: list[_Placed] = []
    for class_id, look in objects.items():
        area = rng.uniform(*area_range_px)
        radius = float(np.sqrt(area / _AREAS[look.shape]))
        spot = _free_spot(height, width, radius, placed, rng)
        placed.append(spot)
        cover_HW = _paint(canvas_HW3, look, spot, rng)
        labels_HW[cover_HW > 0.5] = class_id
    canvas_HW3 += rng.normal(0.0, 0.015, canvas_HW3.shape)
    image_HW3 = np.rint(np.clip(canvas_HW3, 0.0, 1.0) * 255).astype(np.uint8)
    return image_HW3, _with_boundaries(labels_HW)


def _free_spot(
    height: int, width: int, radius: float, placed: list[_Placed], rng: np.random.Generator
) -> _Placed:
    """The first drawn spot that touches no other object, or the one that overlaps least."""
    best, best_gap = _Placed(height / 2, width / 2, radius), -np.inf
    for _ in range(_PLACEMENTS_TRIED):
        row, column = rng.uniform(radius * 0.9, np.array([height, width]) - radius * 0.9)
        gaps = [
            float(np.hypot(row - other.row, column - other.column)) - radius - other.radius
            for other in placed
        ]
        gap = min(gaps, default=0.0)
        if gap > best_gap:
            best, best_gap = _Placed(row, column, radius), gap
        if gap >= 0:
            break
    return best


def _paint(canvas_HW3: Floats, look: Look, spot: _Placed, rng: np.random.Generator) -> Floats:
    """Draw one object onto the canvas, in place; its cover in [0, 1] for each pixel."""
    window = _window(canvas_HW3.shape[:2], spot)
    angle = rng.uniform(0.0, 2 * np.pi)
    fine_u, fine_v = _own_frame(window, spot, angle, _OVERSAMPLING)
    cover_hw = _shrink(_SHAPES[look.shape](fine_u, fine_v).astype(np.float64))
    u, v = _own_frame(window, spot, angle, 1)
    body_hw3 = _textured(look, u * spot.radius, v * spot.radius, rng) * _light(u, v, angle, rng)
    part_hw3 = canvas_HW3[window]
    part_hw3[3:, 3:] *= 1.0 - 0.4 * _blurred(cover_hw, 4.0)[:-3, :-3, None]
    part_hw3 += (body_hw3 - part_hw3) * cover_hw[..., None]
    cover_HW = np.zeros(canvas_HW3.shape[:2])
    cover_HW[window] = cover_hw
    return cover_HW


def _window(size_px: tuple[int, ...], spot: _Placed) -> tuple[slice, slice]:
    """The rows and columns that an object and its shadow can touch."""
    reach = spot.radius + _SHADOW_REACH_PX
    rows, columns = (
        slice(max(int(centre - reach), 0), min(int(centre + reach) + 1, side))
        for centre, side in zip((spot.row, spot.column), size_px, strict=True)
    )
    return rows, columns


def _own_frame(
    window: tuple[slice, slice], spot: _Placed, angle: float, oversampling: int
) -> tuple[Floats, Floats]:
    """(u, v) of every pixel of the window, or of `oversampling` points along each of its sides."""
    rows, columns = (
        np.arange(part.start * oversampling, part.stop * oversampling) / oversampling
        + 0.5 / oversampling
        for part in window
    )
    dy = (rows[:, None] - spot.row) / spot.radius
    dx = (columns[None, :] - spot.column) / spot.radius
    return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)


def _shrink(fine: Floats) -> Floats:
    n = _OVERSAMPLING
    blocks = fine.reshape(fine.shape[0] // n, n, fine.shape[1] // n, n)
    return np.asarray(blocks.mean(axis=(1, 3)))


def _textured(look: Look, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """Two tones of the class's hue, mixed by its texture; x and y in pixels."""
    hue = look.hue + rng.uniform(-0.035, 0.035)
    bright = _rgb(hue, rng.uniform(0.55, 0.95), rng.uniform(0.75, 1.0))
    dark = _rgb(hue + rng.uniform(-0.03, 0.03), rng.uniform(0.5, 0.9), rng.uniform(0.2, 0.4))
    period = rng.uniform(10.0, 14.0)
    phase_x, phase_y = rng.uniform(0.0, period, 2)
    mix = _TEXTURES[look.texture]((x + phase_x) / period, (y + phase_y) / period)
    return bright + (dark - bright) * mix[..., None]


def _light(u: Floats, v: Floats, angle: float, rng: np.random.Generator) -> Floats:
    across = u * np.cos(angle) - v * np.sin(angle) + u * np.sin(angle) + v * np.cos(angle)
    return np.asarray(1.0 - rng.uniform(0.05, 0.2) * across)[..., None]


def _ground(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Cloudy ground of one muted colour with a faint weave in a random direction."""
    clouds = _noise(height, width, 6, rng) + 0.5 * _noise(height, width, 24, rng)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    angle, period = rng.uniform(0.0, np.pi), rng.uniform(5.0, 16.0)
    weave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * 2 * np.pi / period)
    grain = _noise(height, width, 70, rng)
    bright = 1.0 + rng.uniform(0.15, 0.4) * clouds + rng.uniform(0.0, 0.12) * weave
    bright += rng.uniform(0.05, 0.25) * grain
    colour = _rgb(rng.uniform(), rng.uniform(0.05, 0.45), rng.uniform(0.35, 0.75))
    return np.asarray(bright[..., None] * colour, np.float64)


def _noise(height: int, width: int, cells: int, rng: np.random.Generator) -> Floats:
    """Smooth noise in about [-1, 1] with `cells` bumps along each side."""
    coarse = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float64) / 127.5 - 1.0


def _blurred(cover_HW: Floats, radius_px: float) -> Floats:
    image = Image.fromarray(np.rint(cover_HW * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius_px)), np.float64) / 255.0


def _with_boundaries(labels_HW: Bytes) -> Bytes:
    """Mark both sides of every change of label by 255."""
    edge_HW = np.zeros(labels_HW.shape, np.bool_)
    down, right = labels_HW[1:] != labels_HW[:-1], labels_HW[:, 1:] != labels_HW[:, :-1]
    edge_HW[1:] |= down
    edge_HW[:-1] |= down
    edge_HW[:, 1:] |= right
    edge_HW[:, :-1] |= right
    return np.where(edge_HW, np.uint8(IGNORE), labels_HW)


def _rgb(hue: float, saturation: float, value: float) -> Floats:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def _polygon(sides: int) -> Callable[[Floats, Floats], Bools]:
    def inside(u: Floats, v: Floats) -> Bools:
        step = 2 * np.pi / sides
        from_apothem = (np.arctan2(u, v) + np.pi) % step - step / 2
        return np.asarray(np.hypot(u, v) * np.cos(from_apothem) <= np.cos(step / 2))

    return inside


def _star(u: Floats, v: Floats) -> Bools:
    step = 2 * np.pi / 5
    from_tip = np.abs((np.arctan2(u, v) + np.pi) % step - step / 2)
    inner = 0.45
    # The edge from the tip (1, 0) to the inner corner, in polar form.
    corner_x, corner_y = inner * np.cos(step / 2), inner * np.sin(step / 2)
    edge = corner_y / (corner_y * np.cos(from_tip) + (1 - corner_x) * np.sin(from_tip))
    return np.asarray(np.hypot(u, v) <= edge)


def _ring(u: Floats, v: Floats) -> Bools:
    radius = np.hypot(u, v)
    return (radius <= 1.0) & (radius >= 0.5)


def _cross(u: Floats, v: Floats) -> Bools:
    near, far = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    return (near <= 0.3) & (far <= 0.95)


_SHAPES: dict[str, Callable[[Floats, Floats], Bools]] = {
    "disc": lambda u, v: np.hypot(u, v) <= 1.0,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.71,
    "triangle": _polygon(3),
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "ellipse": lambda u, v: np.hypot(u, v / 0.55) <= 1.0,
    "hexagon": _polygon(6),
    "crescent": lambda u, v: (np.hypot(u, v) <= 1.0) & (np.hypot(u - 0.6, v) >= 0.75),
    "hourglass": lambda u, v: (abs(u) <= 0.12 + 0.75 * abs(v)) & (abs(v) <= 0.75),
}


def _unit_area(inside: Callable[[Floats, Floats], Bools]) -> float:
    line = np.linspace(-1.0, 1.0, 257)
    return float(4.0 * inside(line[None, :], line[:, None]).mean())


_AREAS = {name: _unit_area(inside) for name, inside in _SHAPES.items()}


def _cell(x: Floats) -> Floats:
    return x - np.floor(x) - 0.5


_TEXTURES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "plain": lambda x, y: 0.12 + 0.0 * x * y,
    "striped": lambda x, _: (_cell(x) < 0).astype(np.float64),
    "checked": lambda x, y: (_cell(x) * _cell(y) < 0).astype(np.float64),
    "dotted": lambda x, y: (np.hypot(_cell(x), _cell(y)) < 0.3).astype(np.float64),
    "latticed": lambda x, y: (np.minimum(abs(_cell(x)), abs(_cell(y))) < 0.11).astype(np.float64),
    "zigzag": lambda x, y: (_cell(x + 0.8 * abs(_cell(y / 1.5))) < 0).astype(np.float64),
    "rippled": lambda x, y: 0.5 + 0.5 * np.sin(2 * np.pi * (x + 0.35 * np.sin(2 * np.pi * y / 2))),
    "bricked": lambda x, y: (
        (abs(_cell(2 * y)) > 0.36) | (abs(_cell(x / 1.4 + 0.5 * np.floor(2 * y))) > 0.42)
    ).astype(np.float64),
    "cratered": lambda x, y: (abs(np.hypot(_cell(x / 1.2), _cell(y / 1.2)) - 0.3) < 0.1).astype(
        np.float64
    ),
    "diced": lambda x, y: ((abs(_cell(x)) < 0.28) & (abs(_cell(y)) < 0.28)).astype(np.float64),
}
