"""Boxes as corners (left, top, right, bottom): overlap, clipping, suppression of doubles.

Notation for array shapes:
    - m, p: number of boxes
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.overlaps import overlapping_pairs, paired_iou

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
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return paired_iou(first[:, None], second)


def clip_boxes(xyxy: NDArray[FloatT], size: tuple[float, float] = (1.0, 1.0)) -> NDArray[FloatT]:
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
        iou_threshold: IoU above which a box is suppressed, in [0, 1]; at 1 nothing is.
        max_kept: Stop after so many boxes; None keeps all.

    Returns:
        int64 indices of what is kept, the highest score first.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, kinds = xyxy[order], classes[order]
    limit = len(order) if max_kept is None else max_kept
    kept = np.empty(0, np.int64)
    for start in range(0, len(order), BLOCK):
        if len(kept) >= limit:
            break
        if start == BLOCK and 2 * len(kept) > BLOCK and limit > 4 * BLOCK:
            # Few go: to compare those kept with all others would be the most work.
            pairs = overlapping_pairs(boxes, kinds, iou_threshold)
            if pairs is not None:
                kept = _survivors(len(order), *pairs)
                break
        block = np.arange(start, min(start + BLOCK, len(order)))
        block = block[~_overlaps(boxes, kinds, block, kept, iou_threshold).any(axis=1)]
        worse, better = np.nonzero(_overlaps(boxes, kinds, block, block, iou_threshold))
        ranked = worse > better
        kept = np.concatenate([kept, block[_survivors(len(block), better[ranked], worse[ranked])]])
    return np.asarray(order[kept[:limit]], np.int64)


def _survivors(num: int, better: NDArray[np.int64], worse: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of `num` boxes are kept, best first, given the pairs that overlap.

    Keep boxes that no kept, higher-scored box suppresses.
    """
    stays = np.ones(num, np.bool_)
    while len(worse):
        waits = np.zeros(num, np.bool_)
        waits[worse] = True
        stays[worse[~waits[better]]] = False
        open_pairs = stays[better] & stays[worse]
        better, worse = better[open_pairs], worse[open_pairs]
    return np.flatnonzero(stays)


def _overlaps(
    xyxy: NDArray[np.floating],
    classes: NDArray[np.integer],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.bool_]:
    """Return whether boxes are of one class and overlap by more than the threshold, [m, p]."""
    same = classes[rows][:, None] == classes[columns]
    close = paired_iou(xyxy[rows][:, None], xyxy[columns]) > iou_threshold
    return np.asarray(same & close, np.bool_)
