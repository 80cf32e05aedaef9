"""Random placements of images in a view, chosen by what is visible of their objects.

A `Placement` is a rectangle of the canvas and the matrix from the image's pixels to the canvas. One
image may have the whole canvas, or four share it; where an image does not reach, the mean colour
stays.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.augment.presets import BoxAugmentation
from autofocus.data.batches.augment.tone import grey_mean, tone_table
from autofocus.data.batches.preprocess import normalize
from autofocus.data.batches.warp import Image, Matrix, transform_points, warp
from autofocus.manifest import Preprocess

# Positions that are tried anywhere, and then around some object, before the best of them must do:
# of a small object in a corner, chance alone would hardly ever find the right place.
_NUM_FREE, _NUM_AROUND = 6, 4
# The seam between four images lies no nearer to an edge than this share of the canvas.
_MIN_QUARTER_FRAC = 0.3
# OpenCV takes polygons in 1/16 pixels.
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of the canvas, in whole pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left


@dataclass(frozen=True, slots=True)
class Placement:
    """An image's place on the canvas.

    Attributes:
        rect: Part of the canvas that it may take.
        matrix: Map from the image's pixels to the canvas.
    """

    rect: Rect
    matrix: Matrix


def random_placement(
    rng: np.random.Generator,
    size: tuple[int, int],
    boxes: NDArray[np.float64],
    fit: tuple[float, float],
    rect: Rect,
    params: BoxAugmentation,
    zoom_range: tuple[float, float],
) -> Placement:
    """Draw a zoom, a stretch, a position, a flip and a turn.

    Args:
        rng: Source of all chance.
        size: (height, width) of the image.
        boxes: [m, 4] corners of its objects, in its pixels.
        fit: Scales (x, y) at which the image fills the canvas as in evaluation.
        rect: Part of the canvas that it may take.
        params: Ranges to draw from.
        zoom_range: Least and greatest zoom.
    """
    scales, room, at = _candidates(rng, size, fit, rect, params.aspect_range, zoom_range)
    offsets = room * at
    if len(boxes):
        some = boxes[rng.integers(len(boxes), size=_NUM_AROUND)].reshape(-1, 2, 2)
        low, high = _around(some * scales[_NUM_FREE:, None], room[_NUM_FREE:], rect)
        offsets[_NUM_FREE:] = low + (high - low) * at[_NUM_FREE:]
    wanted = params.min_shown_fracs[int(rng.integers(len(params.min_shown_fracs)))]
    chosen = _first_that_shows(boxes, scales, offsets, (rect.width, rect.height), wanted)
    matrix = _matrix(scales[chosen], offsets[chosen])
    return Placement(rect, _shifted(_flipped_and_turned(rng, matrix, size, rect, params), rect))


def whole_placement(
    rng: np.random.Generator,
    size: tuple[int, int],
    fit: tuple[float, float],
    rect: Rect,
    params: BoxAugmentation,
) -> Placement:
    """Place an image as in evaluation, but for flip and turn."""
    matrix = _matrix(np.array(fit), np.zeros(2))
    return Placement(rect, _shifted(_flipped_and_turned(rng, matrix, size, rect, params), rect))


def quarters(rng: np.random.Generator, size: tuple[int, int]) -> list[Rect]:
    """Cut a canvas of (height, width) into four at a random point."""
    height, width = size
    span = 1 - 2 * _MIN_QUARTER_FRAC
    y, x = (
        round(side * (_MIN_QUARTER_FRAC + span * draw))
        for side, draw in zip(size, rng.random(2).tolist(), strict=True)
    )
    return [
        Rect(0, 0, y, x),
        Rect(0, x, y, width),
        Rect(y, 0, height, x),
        Rect(y, x, height, width),
    ]


def visible_fracs(
    boxes: NDArray[np.float64], rect: tuple[float, float, float, float]
) -> NDArray[np.float64]:
    """Return the share of each box's area that lies within a rectangle.

    Args:
        boxes: [..., 4] corners.
        rect: (left, top, right, bottom) in their unit.
    """
    left, top, right, bottom = rect
    clipped = np.clip(boxes, (left, top, left, top), (right, bottom, right, bottom))
    whole = _areas(boxes)
    return np.divide(_areas(clipped), whole, out=np.zeros_like(whole), where=whole > 0)


def _flipped_and_turned(
    rng: np.random.Generator,
    matrix: Matrix,
    size: tuple[int, int],
    rect: Rect,
    params: BoxAugmentation,
) -> Matrix:
    """Mirror an image where it lies, and turn it about the middle of what it may take."""
    flip, turn = rng.random(2).tolist()
    if flip < params.flip_prob:
        mirror = np.array([[-1.0, 0, size[1]], [0, 1.0, 0]])
        matrix = _then(mirror, matrix)
    if params.rotation_deg:
        angle = math.radians(params.rotation_deg) * (2 * turn - 1)
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = rect.width / 2, rect.height / 2
        matrix = _then(
            matrix,
            np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]]),
        )
    return matrix


def _candidates(
    rng: np.random.Generator,
    size: tuple[int, int],
    fit: tuple[float, float],
    rect: Rect,
    aspect_range: tuple[float, float],
    zoom_range: tuple[float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return scales, the room that is left, and the share of it before the image; each [t, 2]."""
    zoom, aspect, *at = rng.random((4, _NUM_FREE + _NUM_AROUND))
    least, greatest = np.log(zoom_range)
    thin, wide = np.log(aspect_range)
    zoom = np.exp(least + zoom * (greatest - least))
    root = np.exp((thin + aspect * (wide - thin)) / 2)
    scales = np.stack([fit[0] * zoom * root, fit[1] * zoom / root], axis=1)
    # Where the image is larger than its place it covers it; where it is smaller it lies within.
    room = np.array([rect.width, rect.height]) - scales * size[::-1]
    return scales, room, np.transpose(at)


def _around(
    boxes: NDArray[np.float64], room: NDArray[np.float64], rect: Rect
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the offsets, least and greatest, at which objects are seen whole or fill the view.

    Args:
        boxes: [t, 2, 2] corners of an object, in pixels of the canvas before it is moved.
        room: [t, 2] that the image leaves.
        rect: Part of the canvas that it may take.
    """
    nearest, farthest = -boxes[:, 0], np.array([rect.width, rect.height]) - boxes[:, 1]
    low, high = np.minimum(room, 0), np.maximum(room, 0)
    return np.clip(nearest, low, high), np.clip(farthest, low, high)


def _first_that_shows(
    boxes: NDArray[np.float64],
    scales: NDArray[np.float64],
    offsets: NDArray[np.float64],
    extent: tuple[int, int],
    wanted: float,
) -> int:
    """Return the first place where some object keeps `wanted` of its area, else the best one."""
    if not len(boxes):
        return 0
    moved = boxes * np.tile(scales, 2)[:, None] + np.tile(offsets, 2)[:, None]
    best = visible_fracs(moved, (0, 0, *extent)).max(axis=1)
    enough = best >= wanted
    return int(enough.argmax() if enough.any() else best.argmax())


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))


def _matrix(scale: NDArray[np.float64], offset: NDArray[np.float64]) -> Matrix:
    return np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])


def _then(first: Matrix, second: Matrix) -> Matrix:
    """Return the matrix that does both, one after the other."""
    return np.column_stack(
        [second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]]
    )


def _shifted(matrix: Matrix, rect: Rect) -> Matrix:
    moved = matrix.copy()
    moved[:, 2] += (rect.left, rect.top)
    return moved


def paint(
    image: Image,
    placement: Placement,
    spec: Preprocess,
    out: NDArray[np.float32],
    tone: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Warp an image into its rectangle of the canvas; all of that rectangle is written.

    Args:
        image: RGB [h, w, 3].
        placement: Its place on the canvas.
        spec: The normalisation, after which the mean colour is 0.
        out: float32 [H, W, 3], the canvas.
        tone: Factors of brightness and contrast.
    """
    rect = placement.rect
    corners = transform_points(placement.matrix, _corners(*image.shape[:2]))
    reached = _reached(corners, rect)
    tile = out[rect.top : rect.bottom, rect.left : rect.right]
    if reached is None:
        tile[:] = 0
        return
    _clear_around(tile, rect, reached)
    moved = placement.matrix.copy()
    moved[:, 2] -= (reached.left, reached.top)
    pixels = warp(image, moved, (reached.height, reached.width))
    levels = None if tone == (1.0, 1.0) else tone_table(*tone, grey_mean(pixels))
    part = out[reached.top : reached.bottom, reached.left : reached.right]
    normalize(pixels, spec, part, levels)
    if _is_turned(placement.matrix):
        _clear_beyond(part, corners - (reached.left, reached.top))


def _corners(height: int, width: int) -> NDArray[np.float64]:
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)


def _reached(corners: NDArray[np.float64], rect: Rect) -> Rect | None:
    """Return the pixels of a rectangle whose middle the image's bounds hold, if any."""
    # A turned image's bounds are its own but for the corners, which are cleared later.
    low, high = np.rint(corners.min(axis=0)), np.rint(corners.max(axis=0))
    left, top = max(rect.left, int(low[0])), max(rect.top, int(low[1]))
    right, bottom = min(rect.right, int(high[0])), min(rect.bottom, int(high[1]))
    return Rect(top, left, bottom, right) if left < right and top < bottom else None


def _clear_around(tile: NDArray[np.float32], rect: Rect, reached: Rect) -> None:
    """Set a tile to 0 outside of what is reached."""
    top, bottom = reached.top - rect.top, reached.bottom - rect.top
    tile[:top] = 0
    tile[bottom:] = 0
    tile[top:bottom, : reached.left - rect.left] = 0
    tile[top:bottom, reached.right - rect.left :] = 0


def _is_turned(matrix: Matrix) -> bool:
    return bool(matrix[0, 1] or matrix[1, 0])


def _clear_beyond(part: NDArray[np.float32], corners: NDArray[np.float64]) -> None:
    """Set what lies beyond each side of a turned image to 0."""
    far = 2.0 * max(part.shape[:2])
    middle = corners.mean(axis=0)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = (end - start) / max(1e-9, float(np.hypot(*(end - start))))
        outward = np.array([along[1], -along[0]])
        if outward @ (middle - start) > 0:
            outward = -outward
        ends = np.array([start - far * along, end + far * along])
        strip = np.concatenate([ends, ends[::-1] + far * outward])
        fixed = np.rint((strip - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(part, fixed, (0, 0, 0), shift=_SHIFT)
