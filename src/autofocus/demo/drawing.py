"""Drawing primitives: sprites, colours, noise, polygons, pictures laid on faces.

Notation for array shapes:
    - h, w: height and width of a sprite or picture, in pixels
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Plane = NDArray[np.float32]
Point = tuple[float, float]

MARGIN = 3  # pixels around a sprite's outline, so that a warp finds an edge to blend
_SHIFT = 4  # cv2 takes points in 1/16 pixel


@dataclass(frozen=True)
class Sprite:
    """Upright drawing of a thing, larger than it will appear.

    Attributes:
        rgb: uint8 [h, w, 3], painted beyond the outline too, so that edges get no fringe.
        coverage: uint8 [h, w], 255 inside the outline: the mask of the thing.
        opacity: uint8 [h, w], 255 where it hides what is behind; below coverage for glass.
    """

    rgb: Rgb
    coverage: NDArray[np.uint8]
    opacity: NDArray[np.uint8]

    def __post_init__(self) -> None:
        assert self.rgb.shape[:2] == self.coverage.shape == self.opacity.shape

    def mirrored(self) -> "Sprite":
        """Return the sprite with left and right swapped."""
        return Sprite(
            *(np.ascontiguousarray(a[:, ::-1]) for a in (self.rgb, self.coverage, self.opacity))
        )


def random_colour(
    rng: np.random.Generator,
    saturation: tuple[float, float] = (0.15, 0.95),
    value: tuple[float, float] = (0.25, 0.98),
) -> Plane:
    """Return an RGB colour of any hue, float32 [3] in [0, 255]."""
    hsv = (rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array(colorsys.hsv_to_rgb(*hsv), dtype=np.float32) * 255


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, rows: int, columns: int
) -> Plane:
    """Return noise in [0, 1], float32 [height, width], with `rows` x `columns` random nodes."""
    nodes = rng.random((max(rows, 2), max(columns, 2)), dtype=np.float32)
    return np.clip(cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def mix(low: Plane, high: Plane, amount: Plane) -> Plane:
    """Return colours between two, float32 [h, w, 3], from amounts [h, w] in [0, 1]."""
    return low + amount[..., None] * (high - low)


def as_floats(values: NDArray[Any]) -> Plane:
    """Return values as float32; no copy when they are."""
    return values.astype(np.float32, copy=False)


def as_bytes(values: Plane) -> Rgb:
    """Return values clipped to [0, 255], as uint8."""
    return np.clip(values, 0, 255).astype(np.uint8)


def fill(canvas: NDArray[np.uint8], points: Sequence[Point], colour: Sequence[float]) -> None:
    """Fill one polygon in place with smooth edges; points are (x, y) pixels, area convention."""
    # Integer coordinates of cv2 are centres of pixels.
    fixed = np.round((np.array(points) - 0.5) * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], [float(c) for c in colour], cv2.LINE_AA, _SHIFT)


def ellipse_points(centre: Point, radii: Point, num_points: int = 40) -> list[Point]:
    """Return the corners of a polygon that approximates an ellipse."""
    angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    xs, ys = centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def lay_on(canvas: Rgb, picture: Rgb, quad: Sequence[Point], brightness: float) -> None:
    """Paint a picture onto a flat face in place.

    Args:
        canvas: uint8 [h, w, 3].
        picture: uint8 [any, any, 3].
        quad: Targets of the picture's corners: top left, top right, bottom right, bottom left.
        brightness: Factor on the picture's colours.
    """
    height, width = picture.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float32)
    target = np.array(quad, dtype=np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    size = (canvas.shape[1], canvas.shape[0])
    lit = cv2.convertScaleAbs(picture, alpha=brightness)
    laid = cv2.warpPerspective(lit, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    face = np.zeros(canvas.shape[:2], dtype=np.uint8)
    fill(face, quad, (255,))
    cv2.copyTo(laid, (face > 127).astype(np.uint8), canvas)
