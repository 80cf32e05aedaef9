"""From mask probabilities to outlines in fractions of the image, one object at a time.

A mask is drawn only where the object is, at the image's resolution or, where that would be much
finer than the eye or the network can tell, at `MAX_SIDE`: memory does not grow with the image.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.structures.contours import mask_rings
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import Polygon

# Pixels along a side that an object is drawn with at most.
MAX_SIDE = 512


def outline_in_box(
    probs: NDArray[np.floating],
    box: NDArray[np.floating],
    size: tuple[int, int],
    threshold: float,
    max_points: int,
) -> Polygon:
    """Return the outline of an object whose mask covers its box.

    Args:
        probs: [s, s], probabilities; beyond the box they are 0.
        box: [4] corners in fractions of the image, not cut to it.
        size: (height, width) of the image, in pixels.
        threshold: A pixel above it is inside.
        max_points: A ring has at most so many points.

    Returns:
        Rings in fractions of the image; none where nothing is above the threshold.
    """
    return _outline(probs, box, box, size, threshold, max_points)


def outline_on_canvas(
    probs: NDArray[np.floating], frame: Frame, threshold: float, max_points: int
) -> Polygon:
    """Return the outline of an object whose mask [h', w'] covers the network's canvas.

    See `outline_in_box`.
    """
    inside = probs > threshold
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return ()
    height, width = probs.shape
    # One cell more: between it and the last one inside, probability falls.
    support = np.array([columns[0] - 1, rows[0] - 1, columns[-1] + 2, rows[-1] + 2])
    extent = frame.boxes_to_image(support / (width, height, width, height))
    region = np.array(frame.region)
    return _outline(probs, region, extent, frame.size, threshold, max_points, cv2.BORDER_REPLICATE)


def _outline(
    probs: NDArray[np.floating],
    region: NDArray[np.floating],
    extent: NDArray[np.floating],
    size: tuple[int, int],
    threshold: float,
    max_points: int,
    border: int = cv2.BORDER_CONSTANT,
) -> Polygon:
    """Return the outline of `probs`, which cover `region`, within `extent`; both in fractions."""
    shape = np.array([size[1], size[0]])
    low = np.maximum(np.floor(extent[:2] * shape), 0)
    high = np.minimum(np.ceil(extent[2:] * shape), shape)
    if (high <= low).any():
        return ()
    drawn = np.minimum(high - low, MAX_SIDE).astype(int)
    step = (high - low) / drawn
    # Pixel centres of the drawing, to cells of the mask: x -> x * scale + shift.
    cells = np.array(probs.shape[::-1])
    scale = cells / ((region[2:] - region[:2]) * shape)
    shift = (low + step / 2 - region[:2] * shape) * scale - 0.5
    matrix = np.array([[scale[0] * step[0], 0, shift[0]], [0, scale[1] * step[1], shift[1]]])
    placed = cv2.warpAffine(
        np.ascontiguousarray(probs, np.float32),
        matrix,
        (int(drawn[0]), int(drawn[1])),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
    )
    rings = mask_rings(placed > threshold, max_points)
    return tuple(np.asarray((ring * step + low) / shape, np.float32) for ring in rings)
