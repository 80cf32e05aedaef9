"""Overlapping pairs of many boxes, without a look at every pair.

Boxes are sorted into groups of neighbours. Two groups whose bounds allow no overlap that counts
are left out together; the others are compared as one array.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatT = TypeVar("FloatT", bound=np.floating[Any])
Indices = NDArray[np.int64]

# Boxes in a group, and pairs of groups compared at once: half a megabyte, which caches hold.
GROUP = 40
BATCH = 64
# Above so many pairs of groups the bounds leave too much out too seldom.
MAX_GROUP_PAIRS = 6000


def overlapping_pairs(
    xyxy: NDArray[FloatT], classes: NDArray[np.integer], iou_threshold: float
) -> tuple[Indices, Indices] | None:
    """Return the pairs of boxes of one class that overlap by more than `iou_threshold`.

    Args:
        xyxy: [m, 4] corners, m > 0.
        classes: [m] integers.
        iou_threshold: IoU, in [0, 1].

    Returns:
        The lower and the higher index of each pair, once; None where boxes lie so that comparing
        group by group does not pay.
    """
    members, is_padding = _groups(xyxy, classes)
    first, second = _near_groups(xyxy[members], classes[members], iou_threshold)
    if len(first) > MAX_GROUP_PAIRS:
        return None
    a, b = _compare(xyxy, members, is_padding, (first, second), iou_threshold)
    chosen = (classes[a] == classes[b]) & (a != b)
    a, b = a[chosen], b[chosen]
    chosen = paired_iou(xyxy[a], xyxy[b]) > iou_threshold
    return np.minimum(a, b)[chosen], np.maximum(a, b)[chosen]


def paired_iou(a: NDArray[FloatT], b: NDArray[FloatT]) -> NDArray[FloatT]:
    """Return the overlaps of boxes [..., 4] with boxes [..., 4], in their precision."""
    x1, y1, x2, y2 = np.ascontiguousarray(np.moveaxis(a, -1, 0))
    u1, v1, u2, v2 = np.ascontiguousarray(np.moveaxis(b, -1, 0))
    shared = np.maximum(np.minimum(x2, u2) - np.maximum(x1, u1), 0)
    shared *= np.maximum(np.minimum(y2, v2) - np.maximum(y1, v1), 0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _groups(
    xyxy: NDArray[np.floating], classes: NDArray[np.integer]
) -> tuple[Indices, NDArray[np.bool_]]:
    """Return indices [g, GROUP] of neighbours, and which of them only fill the last groups up.

    Strips by class and x, in each strip groups by class and y.
    """
    num = len(xyxy)
    num_strips = max(1, round((num / GROUP) ** 0.5))
    length = -(-num // (num_strips * GROUP)) * GROUP
    centre = (xyxy[:, :2] + xyxy[:, 2:]).astype(np.float64)
    aside = classes * (2 * np.abs(centre).max() + 1)
    members = np.resize(np.argsort(aside + centre[:, 0], kind="stable"), num_strips * length)
    is_padding = np.arange(len(members)) >= num
    key = np.where(is_padding, np.inf, (aside + centre[:, 1])[members])
    order = np.argsort(key.reshape(num_strips, length), axis=1, kind="stable")
    order = (order + np.arange(num_strips)[:, None] * length).reshape(-1, GROUP)
    return members[order], is_padding[order]


def _near_groups(
    boxes: NDArray[np.floating], classes: NDArray[np.integer], iou_threshold: float
) -> tuple[Indices, Indices]:
    """Return the pairs of groups, each with itself too, in which boxes may overlap enough.

    What two boxes share is at least the threshold's part of either's width, and of its height.
    """
    near = np.ones((len(boxes), len(boxes)), np.bool_)
    for begin, end in ((boxes[..., 0], boxes[..., 2]), (boxes[..., 1], boxes[..., 3])):
        low, high = begin.min(axis=1), end.max(axis=1)
        least = (end - begin).min(axis=1) * iou_threshold
        shared = np.minimum(high[:, None], high)
        shared -= np.maximum(low[:, None], low)
        near &= shared >= np.maximum(least[:, None], least)
    first, last = classes.min(axis=1), classes.max(axis=1)
    near &= (first[:, None] <= last) & (first <= last[:, None])
    rows, columns = np.nonzero(np.triu(near))
    return rows, columns


def _compare(
    xyxy: NDArray[np.floating],
    members: Indices,
    is_padding: NDArray[np.bool_],
    groups: tuple[Indices, Indices],
    iou_threshold: float,
) -> tuple[Indices, Indices]:
    """Return the pairs of boxes in pairs of groups that overlap by about the threshold or more.

    Overlap s of areas a and b counts when s / (a + b - s) > t, that is s > (a + b) t / (1 + t).
    """
    x1, y1, x2, y2 = np.ascontiguousarray(np.moveaxis(xyxy[members], -1, 0))
    part = iou_threshold / (1 + iou_threshold) * (1 - 1e-5)
    needed = ((x2 - x1) * (y2 - y1) * part).astype(xyxy.dtype)
    needed[is_padding] = np.inf
    found = []
    for start in range(0, len(groups[0]), BATCH):
        p, q = groups[0][start : start + BATCH], groups[1][start : start + BATCH]
        shared = np.minimum(x2[p][:, :, None], x2[q][:, None])
        shared -= np.maximum(x1[p][:, :, None], x1[q][:, None])
        np.maximum(shared, 0, out=shared)
        heights = np.minimum(y2[p][:, :, None], y2[q][:, None])
        heights -= np.maximum(y1[p][:, :, None], y1[q][:, None])
        shared *= heights
        enough = np.add(needed[p][:, :, None], needed[q][:, None], out=heights)
        found.append(np.flatnonzero(shared > enough) + start * GROUP**2)
    pair, cell = np.divmod(np.concatenate(found), GROUP**2)
    row, column = np.divmod(cell, GROUP)
    return members[groups[0][pair], row], members[groups[1][pair], column]
