"""Things with flat faces, seen from a corner: blocks, and cartons with a gable.

Lengths are fractions of the thing's height.
"""

import numpy as np

from autofocus.demo.drawing import (
    Point,
    Rgb,
    Sprite,
    ellipse_points,
    fill,
    lay_on,
    random_colour,
)

_MARGIN = 3


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
    """Draw a carton with a sloping roof, a fin on it, and mostly a screw cap."""
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
    # The fold between roof and flank: a triangle, as a quad with two corners in one place.
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
    """Faces painted one over the other, with the outline of them all."""

    def __init__(self, height: int, width: float) -> None:
        self.height = height
        shape = (height + 2 * _MARGIN, int(np.ceil(width * height)) + 2 * _MARGIN)
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
        return [(x * self.height + _MARGIN, y * self.height + _MARGIN) for x, y in points]
