"""One image into its place on the canvas; where it does not reach, the mean colour stays."""

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.augment.placement import Place, Rect
from autofocus.data.batches.augment.tone import grey_mean, tone_table
from autofocus.data.batches.normalize import normalize
from autofocus.data.batches.warp import Image, Matrix, transform_points, warp
from autofocus.manifest import Preprocess

# OpenCV takes polygons in 1/16 pixels.
_SHIFT = 4


def paint(
    image: Image,
    place: Place,
    spec: Preprocess,
    out: NDArray[np.float32],
    tone: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Warp an image into its rectangle of the canvas; all of that rectangle is written.

    Args:
        image: RGB [h, w, 3].
        place: Where it lies.
        spec: The normalisation, after which the mean colour is 0.
        out: float32 [H, W, 3], the canvas.
        tone: Factors of brightness and contrast.
    """
    rect = place.rect
    corners = transform_points(place.matrix, _corners(*image.shape[:2]))
    reached = _reached(corners, rect)
    tile = out[rect.top : rect.bottom, rect.left : rect.right]
    if reached is None:
        tile[:] = 0
        return
    _clear_around(tile, rect, reached)
    moved = place.matrix.copy()
    moved[:, 2] -= (reached.left, reached.top)
    pixels = warp(image, moved, (reached.height, reached.width))
    levels = None if tone == (1.0, 1.0) else tone_table(*tone, grey_mean(pixels))
    part = out[reached.top : reached.bottom, reached.left : reached.right]
    normalize(pixels, spec, part, levels)
    if _is_turned(place.matrix):
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
