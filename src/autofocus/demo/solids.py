"""Solids of which things are made: round ones turned on a lathe, and ones with flat faces.

Lengths are fractions of the thing's height; a lathe's axis runs from 0 (top) to 1 (bottom).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.demo.drawing import (
    MARGIN,
    Plane,
    Point,
    Rgb,
    Sprite,
    as_bytes,
    ellipse_points,
    fill,
    lay_on,
    random_colour,
)

SKIN_ROWS = 160


@dataclass
class Skin:
    """Surface of the visible half of a round solid.

    Attributes:
        rgb: uint8 [SKIN_ROWS, any, 3]; rows from top to bottom, columns from left to right.
        opacity: float32 [SKIN_ROWS] in [0, 1].
    """

    rgb: Rgb
    opacity: Plane

    @staticmethod
    def plain(colour: Plane, opacity: float = 1.0) -> "Skin":
        """Return a skin of one colour."""
        rgb = np.empty((SKIN_ROWS, 128, 3), dtype=np.uint8)
        rgb[:] = as_bytes(colour)
        return Skin(rgb, np.full(SKIN_ROWS, opacity, dtype=np.float32))

    def cover(self, top: float, bottom: float, print_: Rgb, opacity: float = 1.0) -> None:
        """Lay a print, or one colour of shape [1, 1, 3], around the rows from top to bottom."""
        first, last = round(top * SKIN_ROWS), max(round(bottom * SKIN_ROWS), 1)
        size = (self.rgb.shape[1], last - first)
        self.rgb[first:last] = cv2.resize(print_, size, interpolation=cv2.INTER_AREA)
        self.opacity[first:last] = opacity


@dataclass(frozen=True)
class Viewpoint:
    """Position of viewer and light.

    Attributes:
        height: Length of the sprite's axis, in pixels.
        tilt: Height of a horizontal circle over its width: 0 is eye level.
        light: Sine of the light's angle, -1 (left) to 1 (right).
        gloss: Gloss, from 0 (paper) to 1 (metal).
    """

    height: int
    tilt: float
    light: float
    gloss: float


def random_view(rng: np.random.Generator, height: int, gloss: tuple[float, float]) -> Viewpoint:
    """Return a view from eye level or somewhat above."""
    return Viewpoint(height, rng.uniform(0.03, 0.3), rng.uniform(-0.8, 0.8), rng.uniform(*gloss))


def turn(profile: Sequence[tuple[float, float]], skin: Skin, view: Viewpoint, lid: Plane) -> Sprite:
    """Draw a round solid.

    Args:
        profile: Pairs of distance from the top, 0 to 1, and radius.
        skin: Surface of the visible half.
        view: Size, tilt, light and gloss.
        lid: Colour of the flat top, float32 [3].
    """
    at, radii = np.array(profile, dtype=np.float32).T
    top, bottom = (int(np.ceil(view.tilt * radii[i] * view.height)) + MARGIN for i in (0, -1))
    half = int(np.ceil(radii.max() * view.height)) + MARGIN
    x = ((np.arange(2 * half) + 0.5 - half) / view.height).astype(np.float32)[None, :]
    y = ((np.arange(top + view.height + bottom) + 0.5 - top) / view.height).astype(np.float32)

    # The front of a horizontal circle hangs below its centre by an amount that depends on the
    # radius there; one step of fixed-point iteration looks right.
    across = np.clip(x / np.interp(y, at, radii).astype(np.float32)[:, None], -1, 1)
    facing = np.sqrt(1 - across**2)
    radius = np.interp(y, at, radii).astype(np.float32)[:, None]
    on_axis = y[:, None] - view.tilt * radius * facing
    radius = np.interp(on_axis, at, radii).astype(np.float32)
    across = x / radius
    facing = np.sqrt(np.clip(1 - across**2, 0, 1))
    inside = (np.abs(across) <= 1) & (on_axis >= 0) & (on_axis <= 1)

    colours, opacity = _wrap(skin, across, on_axis)
    rgb = as_bytes(_light(colours, across, facing, view))
    # Clear walls are thicker towards the rim.
    opacity = opacity + (1 - opacity) * np.clip(np.abs(across), 0, 1) ** 6
    coverage = np.where(inside, 255, 0).astype(np.uint8)
    alpha = np.where(inside, opacity * 255, 0).astype(np.uint8)

    centre, size = (float(half), float(top)), float(radii[0] * view.height)
    _close(rgb, coverage, alpha, lid, centre, (size, size * view.tilt))
    return Sprite(rgb, coverage, alpha)


def _wrap(skin: Skin, across: Plane, on_axis: Plane) -> tuple[Plane, Plane]:
    """Return the skin's colours, float32 [h, w, 3], and opacity, [h, w], in the sprite."""
    angle = np.arcsin(np.clip(across, -1, 1)) / np.pi + 0.5
    columns = (angle * (skin.rgb.shape[1] - 1)).astype(np.float32)
    rows = (np.clip(on_axis, 0, 1) * (SKIN_ROWS - 1)).astype(np.float32)
    rgb = cv2.remap(skin.rgb, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return rgb.astype(np.float32), skin.opacity[np.round(rows).astype(np.intp)]


def _light(rgb: Plane, across: Plane, facing: Plane, view: Viewpoint) -> Plane:
    forward = np.sqrt(1 - view.light**2)
    diffuse = 0.4 + 0.65 * np.clip(across * view.light + facing * forward, 0, 1)
    glints = np.exp(-(((across - 0.6 * view.light) / 0.14) ** 2))
    # Metal mirrors the dark room at its sides and a second window opposite the first.
    glints += 0.5 * np.exp(-(((across + 0.75 * view.light) / 0.08) ** 2))
    shade = diffuse * (1 - 0.35 * view.gloss * across**2)
    lit: Plane = rgb * shade[..., None] + (110 * view.gloss * glints)[..., None]
    return lit


def _close(
    rgb: Rgb,
    coverage: NDArray[np.uint8],
    opacity: NDArray[np.uint8],
    lid: Plane,
    centre: tuple[float, float],
    radii: tuple[float, float],
) -> None:
    """Draw the flat top in place, a rim and a sunken middle."""
    outer = ellipse_points(centre, radii)
    fill(rgb, outer, np.minimum(lid * 1.1, 255).tolist())
    inner = ellipse_points(centre, (radii[0] * 0.85, radii[1] * 0.8))
    fill(rgb, inner, (lid * 0.75).tolist())
    for plane in (coverage, opacity):
        fill(plane, outer, (255,))


def draw_block(rng: np.random.Generator, height: int, print_: Rgb, width: float) -> Sprite:
    """Draw a box with a front, a side and a top."""
    side, rise = rng.uniform(0.05, 0.22), rng.uniform(0.02, 0.08)
    canvas = _Canvas(height, width + side)
    canvas.paper(print_)
    front: list[Point] = [(0, rise), (width, rise), (width, 1), (0, 1)]
    flank: list[Point] = [(width, rise), (width + side, 0), (width + side, 1 - rise), (width, 1)]
    top: list[Point] = [(side, 0), (width + side, 0), (width, rise), (0, rise)]
    bright = rng.uniform(0.85, 1.1)
    canvas.lay(print_, front, bright)
    canvas.lay(print_[:, ::-1], flank, bright * rng.uniform(0.55, 0.8))
    canvas.lay(print_[:20], top, bright * rng.uniform(0.9, 1.2))
    return canvas.sprite(mirrored=rng.random() < 0.5)


def draw_gable_top(rng: np.random.Generator, height: int, print_: Rgb, width: float) -> Sprite:
    """Draw a carton with a sloping roof, a fin on it, and often a screw cap."""
    side, rise = rng.uniform(0.06, 0.2), rng.uniform(0.01, 0.05)
    ridge = rng.uniform(0.05, 0.1)
    eaves = ridge + rng.uniform(0.14, 0.22)
    canvas = _Canvas(height, width + side)
    canvas.paper(print_)
    left, right = side / 2, side / 2 + width
    front: list[Point] = [(0, eaves), (width, eaves), (width, 1), (0, 1)]
    flank: list[Point] = [
        (width, eaves),
        (width + side, eaves - rise),
        (width + side, 1 - rise),
        (width, 1),
    ]
    roof: list[Point] = [(left, ridge), (right, ridge), (width, eaves), (0, eaves)]
    # The fold between roof and flank is a triangle: a quad with two equal corners.
    fold: list[Point] = [
        (right, ridge),
        (right, ridge),
        (width + side, eaves - rise),
        (width, eaves),
    ]
    fin: list[Point] = [(left, 0), (right, 0), (right, ridge), (left, ridge)]
    bright = rng.uniform(0.85, 1.1)
    dark = bright * rng.uniform(0.5, 0.8)
    canvas.lay(print_, front, bright)
    canvas.lay(print_[:, ::-1], flank, dark)
    canvas.lay(print_[:30], roof, bright * rng.uniform(0.8, 1.15))
    canvas.paint(fold, print_[:20].mean(axis=(0, 1)) * dark * 0.85)
    canvas.lay(print_[:10], fin, bright * rng.uniform(0.9, 1.2))
    if rng.random() < 0.6:
        canvas.cap(rng, ((left + right + width) / 4, (ridge + eaves) / 2), (eaves - ridge) * 0.4)
    return canvas.sprite(mirrored=rng.random() < 0.5)


class _Canvas:
    """Faces painted over each other, and their common outline."""

    def __init__(self, height: int, width: float) -> None:
        self.height = height
        shape = (height + 2 * MARGIN, int(np.ceil(width * height)) + 2 * MARGIN)
        self.rgb: Rgb = np.zeros((*shape, 3), dtype=np.uint8)
        self.coverage = np.zeros(shape, dtype=np.uint8)

    def paper(self, print_: Rgb) -> None:
        """Fill all of the canvas, outline or not, with the print's mean colour."""
        self.rgb[:] = print_.mean(axis=(0, 1)).astype(np.uint8)

    def lay(self, print_: Rgb, quad: list[Point], brightness: float) -> None:
        """Paint a print onto a face."""
        corners = self._pixels(quad)
        lay_on(self.rgb, np.ascontiguousarray(print_), corners, brightness)
        fill(self.coverage, corners, (255,))

    def paint(self, polygon: list[Point], colour: np.ndarray) -> None:
        """Paint a face in one colour."""
        corners = self._pixels(polygon)
        fill(self.rgb, corners, np.clip(colour, 0, 255).tolist())
        fill(self.coverage, corners, (255,))

    def cap(self, rng: np.random.Generator, centre: Point, radius: float) -> None:
        """Paint a round screw cap."""
        colour = random_colour(rng)
        rim = ellipse_points(centre, (radius, radius * 0.8))
        self.paint(rim, colour * 0.7)
        raised = (centre[0], centre[1] - radius * 0.35)
        self.paint(ellipse_points(raised, (radius * 0.95, radius * 0.7)), colour)

    def sprite(self, mirrored: bool) -> Sprite:
        """Return what was painted, all of it opaque."""
        sprite = Sprite(self.rgb, self.coverage, self.coverage)
        return sprite.mirrored() if mirrored else sprite

    def _pixels(self, points: list[Point]) -> list[Point]:
        return [(x * self.height + MARGIN, y * self.height + MARGIN) for x, y in points]
