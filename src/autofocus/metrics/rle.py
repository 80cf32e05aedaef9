"""Outlines as COCO's run-length encoding, in which masks are compared without ever being bitmaps.

A mask in column-major order is known by the positions where it changes between 0 and 1. Rings are
rasterised by hotcoco's `frPyObjects` (area convention); the exclusive or of several rings is the
set of positions that an odd number of them have.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.masks import rle_counts
from autofocus.structures.predictions import Polygon

# {"size": [height, width], "counts": bytes}, as in pycocotools.
Rle = dict[str, Any]

_MIN_POINTS = 3


def encode_outlines(polygons: Sequence[Polygon], size: tuple[int, int]) -> list[Rle]:
    """Return one mask an outline; where its rings overlap is a hole.

    Args:
        polygons: m outlines, each with rings float32 [p, 2], (x, y) in fractions of the image.
            A ring of fewer than 3 points covers nothing.
        size: (height, width) of the image, in pixels.
    """
    from hotcoco import mask

    height, width = size
    drawn = [[ring for ring in rings if len(ring) >= _MIN_POINTS] for rings in polygons]
    scale = np.array([width, height], np.float64)
    flat = [(ring * scale).ravel().tolist() for rings in drawn for ring in rings]
    encoded = iter(mask.frPyObjects(flat, height, width) if flat else [])
    masks = []
    for rings in drawn:
        parts = [next(encoded) for _ in rings]
        if len(parts) == 1:
            masks.append(parts[0])
        else:
            counts = _exclusive_or(parts, height * width)
            masks.append(
                mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            )
    return masks


def mask_areas(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """Return the number of pixels of each mask, float64 [m]."""
    from hotcoco import mask

    return np.asarray(mask.area(list(masks)) if masks else [], np.float64)


def mask_iou(left: Sequence[Rle], right: Sequence[Rle]) -> NDArray[np.float64]:
    """Return intersection over union of every pair, float64 [m, p]."""
    from hotcoco import mask

    if not left or not right:
        return np.zeros((len(left), len(right)))
    return np.asarray(mask.iou(list(left), list(right), [0] * len(right)), np.float64)


def _exclusive_or(masks: Sequence[Rle], num_pixels: int) -> list[int]:
    """Return run lengths of the pixels that an odd number of masks cover."""
    changes = [np.cumsum(rle_counts(mask)) for mask in masks]
    positions, times = np.unique(np.concatenate([[0], *changes])[1:], return_counts=True)
    odd = positions[(times % 2 == 1) & (positions < num_pixels)].astype(np.int64)
    ends = np.concatenate([[0], odd, [num_pixels]])
    return [int(length) for length in np.diff(ends)]
