"""Boxes as corners (left, top, right, bottom): overlap, clipping, suppression of doubles.

Notation for array shapes:
    - m, p: number of boxes
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatT = TypeVar("FloatT", bound=np.floating[Any])

# Boxes that suppression looks at in one step: their overlaps with each other stay in cache.
BLOCK = 256


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the intersection over union of every pair of boxes; 0 where both are empty.

    Args:
        a: [m, 4] corners, in any unit.
        b: [p, 4] corners, in the same unit.

    Returns:
        float64 [m, p], in [0, 1].
    """
    return _iou(np.asarray(a, np.float64), np.asarray(b, np.float64))


def clip(xyxy: NDArray[FloatT], size: tuple[float, float] = (1.0, 1.0)) -> NDArray[FloatT]:
    """Return boxes [..., 4] cut to an image of `size` (height, width); (1, 1) for fractions."""
    height, width = size
    upper = np.array([width, height, width, height], xyxy.dtype)
    return np.asarray(np.minimum(np.maximum(xyxy, 0), upper), xyxy.dtype)


def nms(
    xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
    classes: NDArray[np.integer],
    iou_threshold: float,
    max_kept: int | None = None,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class.

    The box with the highest score is kept, boxes of its class that overlap it by more than
    `iou_threshold` go, and so on. Of equal scores the first counts as higher.

    Args:
        xyxy: [m, 4] corners, in any unit.
        scores: [m].
        classes: [m] integers.
        iou_threshold: In [0, 1]; at 1 nothing is suppressed.
        max_kept: Stop after so many boxes; None keeps all.

    Returns:
        int64 indices of what is kept, the highest score first.
    """
    order = np.argsort(-scores, kind="stable")
    limit = len(order) if max_kept is None else max_kept
    kept = np.empty(0, np.int64)
    for start in range(0, len(order), BLOCK):
        if len(kept) >= limit:
            break
        block = order[start : start + BLOCK]
        block = block[~_overlaps(xyxy, classes, block, kept, iou_threshold).any(axis=1)]
        within = np.tril(_overlaps(xyxy, classes, block, block, iou_threshold), -1)
        kept = np.concatenate([kept, block[_survivors(within)]])
    return kept[:limit]


def _survivors(suppressors: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return who is kept, bool [m], where [i, j] says that i overlaps the better j."""
    kept = np.ones(len(suppressors), np.bool_)
    for i in np.flatnonzero(suppressors.any(axis=1)):
        kept[i] = not (suppressors[i, :i] & kept[:i]).any()
    return kept


def _overlaps(
    xyxy: NDArray[np.floating],
    classes: NDArray[np.integer],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.bool_]:
    """Return whether boxes are of one class and overlap by more than the threshold, [m, p]."""
    same = classes[rows][:, None] == classes[columns]
    return np.asarray(same & (_iou(xyxy[rows], xyxy[columns]) > iou_threshold), np.bool_)


def _iou(a: NDArray[FloatT], b: NDArray[FloatT]) -> NDArray[FloatT]:
    """Return the overlaps [m, p] in the precision of the boxes."""
    x1, y1, x2, y2 = a.T[:, :, None]
    u1, v1, u2, v2 = b.T
    shared = np.maximum(np.minimum(x2, u2) - np.maximum(x1, u1), 0)
    shared *= np.maximum(np.minimum(y2, v2) - np.maximum(y1, v1), 0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
