"""Matching of detections and objects by the rule of Pascal VOC.

A detection can match only the object of its class and image that it overlaps most. It is a hit
when the overlap reaches the threshold and no detection with a higher score has matched that
object. Where that object is a crowd the detection does not count at all.

Because a detection never matches its second choice, dropping those of low score changes nothing
for the rest: one pass serves every score threshold.

Notation for array shapes:
    - d: number of detections in the data set
    - q: number of objects in the data set that are no crowd
    - m, p: number of detections and of objects in one image
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.predictions import Detections
from autofocus.structures.targets import BoxTarget

# Of equal overlaps the object of the detection's own class comes first.
_OWN_CLASS_BONUS = 1e-9


@dataclass(frozen=True)
class Matches:
    """Every detection and every object of a data set, matched.

    Attributes:
        image: int64 [d], position of the image.
        classes: int64 [d].
        scores: float32 [d].
        rank: int64 [d], position in its image, 0 for the highest score.
        is_hit: bool [d].
        is_crowd: bool [d], whether it lies on a crowd and does not count.
        num_objects: int64 [k], objects of each class that are no crowd.
        has_objects: bool [n], whether the image holds an object that is no crowd.
        true_classes: int64 [q].
        found_classes: int64 [q], class of the detection with the highest score that lies on the
            object, whatever its class; -1 where there is none.
        found_scores: float32 [q], that detection's score; -1 where there is none.
    """

    image: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    rank: NDArray[np.int64]
    is_hit: NDArray[np.bool_]
    is_crowd: NDArray[np.bool_]
    num_objects: NDArray[np.int64]
    has_objects: NDArray[np.bool_]
    true_classes: NDArray[np.int64]
    found_classes: NDArray[np.int64]
    found_scores: NDArray[np.float32]

    def kept(
        self, score_threshold: float | NDArray[np.float32], max_detections: int
    ) -> NDArray[np.bool_]:
        """Return bool [d]: reaches the threshold and is among the first of its image.

        Args:
            score_threshold: Of all classes, or of each, [k].
            max_detections: Most detections of an image.
        """
        of_class = np.broadcast_to(np.float32(score_threshold), len(self.num_objects))
        return (self.scores >= of_class[self.classes]) & (self.rank < max_detections)


def match_detections(
    predictions: Sequence[Detections],
    targets: Sequence[BoxTarget],
    overlaps: Iterable[NDArray[np.float64]],
    num_classes: int,
    iou_threshold: float,
) -> Matches:
    """Match the detections of every image with its objects.

    Args:
        predictions: n predictions, each with descending scores.
        targets: n targets.
        overlaps: n matrices float64 [m, p]: intersection over union of every detection of an
            image with every object; taken one at a time.
        num_classes: k.
        iou_threshold: Least IoU of a hit.
    """
    hits, crowds, found = [], [], []
    for prediction, target, iou in zip(predictions, targets, overlaps, strict=True):
        is_hit, is_crowd = _match_own_class(iou, prediction, target, iou_threshold)
        hits.append(is_hit)
        crowds.append(is_crowd)
        found.append(_first_on_each(iou, prediction, target, iou_threshold))

    lengths = [len(prediction) for prediction in predictions]
    kept = [~target.is_crowd for target in targets]
    true_classes = _join(
        [target.classes[keep] for target, keep in zip(targets, kept, strict=True)], np.int64
    )
    first = _join(found, np.int64)
    classes = _join([prediction.classes for prediction in predictions], np.int64)
    scores = _join([prediction.scores for prediction in predictions], np.float32)
    is_found = first >= 0
    # Positions in an image become positions in the data set.
    starts = np.cumsum([0, *lengths])[:-1]
    first = first + np.repeat(starts, [int(keep.sum()) for keep in kept])
    return Matches(
        image=np.repeat(np.arange(len(lengths)), lengths),
        classes=classes,
        scores=scores,
        rank=_join([np.arange(length) for length in lengths], np.int64),
        is_hit=_join(hits, np.bool_),
        is_crowd=_join(crowds, np.bool_),
        num_objects=np.bincount(true_classes, minlength=num_classes).astype(np.int64),
        has_objects=np.array([keep.any() for keep in kept], np.bool_),
        true_classes=true_classes,
        found_classes=_take(classes, first, is_found),
        found_scores=_take(scores, first, is_found),
    )


def _match_own_class(
    iou: NDArray[np.float64], prediction: Detections, target: BoxTarget, iou_threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the hits among an image's detections, and those that lie on a crowd; bool [m] each."""
    is_hit = np.zeros(len(prediction), np.bool_)
    if iou.size == 0:
        return is_hit, is_hit.copy()
    is_own = prediction.classes[:, None] == target.classes
    own = np.where(is_own, iou, -1.0)
    best = own.argmax(axis=1)
    overlaps = own[np.arange(len(best)), best] >= iou_threshold
    is_crowd = overlaps & target.is_crowd[best]
    candidates = np.flatnonzero(overlaps & ~is_crowd)
    _, first = np.unique(best[candidates], return_index=True)
    is_hit[candidates[first]] = True
    return is_hit, is_crowd


def _first_on_each(
    iou: NDArray[np.float64], prediction: Detections, target: BoxTarget, iou_threshold: float
) -> NDArray[np.int64]:
    """Return the detection that lies on each object that is no crowd, or -1; int64 [objects]."""
    found = np.full(len(target), -1, np.int64)
    if iou.size > 0:
        is_own = prediction.classes[:, None] == target.classes
        best = (iou + _OWN_CLASS_BONUS * is_own).argmax(axis=1)
        candidates = np.flatnonzero(iou[np.arange(len(best)), best] >= iou_threshold)
        objects, first = np.unique(best[candidates], return_index=True)
        found[objects] = candidates[first]
    return found[~target.is_crowd]


def _join(parts: Sequence[NDArray[Any]], dtype: type[Any]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)


def _take(values: NDArray[Any], at: NDArray[np.int64], is_there: NDArray[np.bool_]) -> NDArray[Any]:
    """Return values at positions, -1 where there is none."""
    taken = np.full(len(at), -1, values.dtype)
    taken[is_there] = values[at[is_there]]
    return taken
