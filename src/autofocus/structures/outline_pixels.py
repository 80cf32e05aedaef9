"""Outlines as pixels of a window: to compare two of them, and to unite several into one."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.structures.predictions import Polygon

# OpenCV takes points in 1/16 pixels.
_SHIFT: Final = 4
# Where outlines are united: pixels a pixel of the image, up to so many a side; and how far the
# result may be from the edge, in the image's pixels.
_FINE: Final = 4.0
_MAX_SIDE_PX: Final = 2048
_TOLERANCE_PX: Final = 0.4


def draw_outline(
    polygon: Polygon, window: NDArray[np.floating], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return which pixels of a window an outline covers, 0 or 1.

    Args:
        polygon: Rings in fractions of the image; exclusive or.
        window: (left, top, right, bottom) in the same fractions.
        size: (height, width) of the result.
    """
    height, width = size
    scale = np.array([width, height]) / (window[2:] - window[:2])
    # OpenCV's pixel centres lie on whole numbers.
    rings = [
        np.round(((ring - window[:2]) * scale - 0.5) * (1 << _SHIFT)).astype(np.int32)
        for ring in polygon
    ]
    pixels = np.zeros(size, np.uint8)
    cv2.fillPoly(pixels, rings, (1,), shift=_SHIFT)
    return pixels


def outline_iou(
    a: Polygon, b: Polygon, window: NDArray[np.floating], size: tuple[int, int] = (48, 48)
) -> float:
    """Return the intersection over union of two outlines within a window, at its resolution."""
    first, second = draw_outline(a, window, size), draw_outline(b, window, size)
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def united(
    polygons: Sequence[Polygon], window: NDArray[np.floating], size: tuple[int, int]
) -> Polygon:
    """Return the outline of what any of several outlines covers within a window.

    Args:
        polygons: Rings in fractions of the image.
        window: (left, top, right, bottom) around them, in the same fractions.
        size: (height, width) of the window in the image's pixels.
    """
    # Drawing adds half a pixel and tracing takes it away; finer pixels make both small.
    zoom = np.clip(_MAX_SIDE_PX / max(size), 1e-9, _FINE)
    height, width = (max(1, round(side * zoom)) for side in size)
    pixels = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        pixels |= draw_outline(polygon, window, (height, width))
    contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    scale = (window[2:] - window[:2]) / (width, height)
    rings = (cv2.approxPolyDP(ring, _TOLERANCE_PX * zoom, True).reshape(-1, 2) for ring in contours)
    return tuple(
        ((ring + 0.5) * scale + window[:2]).astype(np.float32) for ring in rings if len(ring) >= 3
    )
