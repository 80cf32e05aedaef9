"""Difference of two responses with objects, for the check after packaging and parity tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.boxes import box_iou

CORNERS = ("topX", "topY", "bottomX", "bottomY")

# Boxes that overlap less are not the same object.
SAME_OBJECT_IOU = 0.5
# Score thresholds lie below it: an object with a lower score may be missing.
LIKELY_THRESHOLD = 0.5
# A response with this many objects was cut off at some score, whatever the threshold.
LIKELY_CAP = 100
# Distance to the NMS threshold within which rounding decides.
SUPPRESSION_MARGIN = 1e-3
# Largest corner difference of one object's boxes by rounding, in fractions.
SAME_BOX = 1e-3
# Largest score difference of two overlapping proposals between which rounding decides.
LEVEL_SCORES = 5e-3
# Rounding decides few cases; a defect of the graph is in all of its objects.
MAX_TIED_SHARE = 0.05

Objects = Sequence[dict[str, Any]]


def response_difference(left: Objects, right: Objects) -> float:
    """Return the largest difference between two lists of wire objects of one image.

    Objects of one label are paired by overlap. A pair differs by its scores and its corners, in
    fractions. An object without a pair differs by as much as its score is above the lowest score
    of either response: at a threshold's edge it is no difference. Nor is one at the edge of
    suppression: it overlaps a better one of its label as much as any two objects do. Objects that
    ties within the network decided are left out; see `comparable_pairs`.
    """
    pairs, *tied = comparable_pairs(left, right)
    boxes, scores = (corners(left), corners(right)), (_scores(left), _scores(right))
    rows, columns = pairs.T
    differences = [
        float(np.abs(boxes[0][rows] - boxes[1][columns]).max(initial=0)),
        float(np.abs(scores[0][rows] - scores[1][columns]).max(initial=0)),
    ]
    floor = _floor(scores)
    edge = max(_doubles(left).max(initial=0), _doubles(right).max(initial=0))
    for objects, own, paired, is_tied in zip(
        (left, right), scores, (rows, columns), tied, strict=True
    ):
        alone = ~is_tied
        alone[paired] = False
        if edge > 0:
            alone &= _doubles(objects) < edge - SUPPRESSION_MARGIN
        differences.append(float((own[alone] - floor).max(initial=0)))
    return max(differences)


def comparable_pairs(
    left: Objects, right: Objects
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pairs that must be alike, and the objects of either response that a tie decided.

    A network may suppress boxes itself, and proposals before them. Of two with the same score,
    rounding decides which one is kept; that one suppresses others than its opposite would, and so
    on. So an object is tied if its box is in one response only, and the other has such an object
    too, of the same label, overlapping it, with no lower score: that one suppressed it. The best of
    them then has the score of its opposite. A defect may look like this in one object, but not in
    few of many: with more than `MAX_TIED_SHARE` of a response, or a tied object without its
    opposite, none is tied.

    Returns:
        Pairs int64 [q, 2], and bool [m] for each response.
    """
    pairs = match_objects(left, right)
    boxes = corners(left), corners(right)
    moved = np.abs(boxes[0][pairs[:, 0]] - boxes[1][pairs[:, 1]]).max(axis=1, initial=0) > SAME_BOX
    changed = np.ones(len(left), np.bool_), np.ones(len(right), np.bool_)
    for side in (0, 1):
        changed[side][pairs[~moved, side]] = False
    none = np.zeros(len(left), np.bool_), np.zeros(len(right), np.bool_)
    if max(map(np.sum, changed)) > MAX_TIED_SHARE * min(len(left), len(right)):
        return pairs, *none
    scores = _scores(left), _scores(right)
    meets = _same_label(left, right) & (box_iou(*boxes) >= SAME_OBJECT_IOU)
    meets &= changed[0][:, None] & changed[1]
    lead = scores[1] - scores[0][:, None]
    suppressed = (
        (meets & (lead >= -LEVEL_SCORES)).any(axis=1),
        (meets & (lead <= LEVEL_SCORES)).any(axis=0),
    )
    floor = _floor(scores)
    for is_changed, is_suppressed, own in zip(changed, suppressed, scores, strict=True):
        if (is_changed & ~is_suppressed & (own > floor)).any():
            return pairs, *none
    return pairs[~moved], *changed


def match_objects(left: Objects, right: Objects) -> NDArray[np.int64]:
    """Return the pairs of one label, int64 [q, 2], the largest overlaps first."""
    iou = box_iou(corners(left), corners(right))
    iou = np.where(_same_label(left, right), iou, 0)
    pairs = []
    while iou.max(initial=0) >= SAME_OBJECT_IOU:
        row, column = divmod(int(iou.argmax()), iou.shape[1])
        pairs.append((row, column))
        iou[row], iou[:, column] = 0, 0
    return np.array(pairs, np.int64).reshape(-1, 2)


def corners(objects: Objects) -> NDArray[np.float64]:
    """Return the corners of wire objects, float64 [m, 4]."""
    rows = [[item["box"][name] for name in CORNERS] for item in objects]
    return np.array(rows, np.float64).reshape(-1, 4)


def _scores(objects: Objects) -> NDArray[np.float64]:
    return np.array([item["score"] for item in objects], np.float64)


def _floor(scores: Sequence[NDArray[np.float64]]) -> float:
    """Return the score below which an object may be missing because of rounding."""
    lowest = float(np.concatenate(scores).min(initial=1))
    if max(map(len, scores)) >= LIKELY_CAP:
        return lowest
    return min(lowest, LIKELY_THRESHOLD)


def _doubles(objects: Objects) -> NDArray[np.float64]:
    """Return the largest IoU of each object with a better one of its label, float64 [m]."""
    iou = np.where(_same_label(objects, objects), box_iou(corners(objects), corners(objects)), 0)
    return np.asarray(np.tril(iou, -1).max(axis=1, initial=0), np.float64)


def _same_label(left: Objects, right: Objects) -> NDArray[np.bool_]:
    a = np.array([item["label"] for item in left], np.str_)
    b = np.array([item["label"] for item in right], np.str_)
    return np.asarray(a[:, None] == b, np.bool_)
