"""One list of objects from what the whole image and its tiles show.

1. An object that a tile cuts is handed over to its whole version in another view, if there is one
   that looks the same within the tile.
2. Pieces of one object on both sides of a seam, which meet there, are united.
3. Of what several views show of one place, class by class, the most certain is kept. Objects of
   one view are different objects: the network has said so.

Notation for array shapes:
    - m: number of objects
    - v: number of views
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.outline_pixels import union_outline
from autofocus.structures.predictions import Detections, Instances, Polygon
from autofocus.structures.seams import (
    OUTWARD,
    ViewObjects,
    agreement,
    gather,
    overlap,
    share_within,
)

Settings = Mapping[str, Any]
PredictionT = TypeVar("PredictionT", bound=Detections)

# Published defaults.
DEFAULT_NMS_THRESHOLD: Final = 0.25
DEFAULT_MAX_POINTS: Final = 100

# Two objects are one when this much of what both views saw is the same.
_SAME: Final = 0.5
# A whole version much less certain than a piece is no version of it.
_MIN_SCORE_SHARE: Final = 0.3
# A piece that lies this much within a more certain object of another view is a part of it.
_WITHIN: Final = 0.7
_LEFT, _TOP, _RIGHT, _BOTTOM = range(4)


def merge_views(
    predictions: Sequence[PredictionT],
    regions: Sequence[Sequence[float]],
    settings: Settings,
    max_objects: int | None = None,
) -> PredictionT:
    """Return the objects of one image, each once.

    Args:
        predictions: One a view of the image, in fractions of the image; at least one.
        regions: (left, top, right, bottom) of what each view shows, in fractions of the image.
        settings: `tile_predictions_nms_threshold`, at 1 of which every view's objects are returned
            as they are, and, for what is united,
            `max_number_of_polygon_points`.
        max_objects: The most to return; None returns all.
    """
    assert len(predictions) == len(regions), "one region a view"
    threshold = float(settings.get("tile_predictions_nms_threshold", DEFAULT_NMS_THRESHOLD))
    max_points = int(settings.get("max_number_of_polygon_points", DEFAULT_MAX_POINTS))
    size = predictions[0].size
    views = np.asarray(regions, np.float64)
    everything = gather(predictions, views)
    # As in any suppression, at 1 nothing is suppressed: two networks can be compared.
    merges = threshold < 1
    merged = everything.at(np.empty(0, np.int64)) if merges else everything
    for label in np.unique(everything.classes) if merges else ():
        objects = everything.at(np.flatnonzero(everything.classes == label))
        objects = _hand_over(objects, views)
        objects = _unite(objects, views, size, max_points)
        merged = merged.joined(objects.at(_most_certain(objects, threshold)))
    merged = merged.at(np.argsort(-merged.scores, kind="stable")[:max_objects])
    return _as_prediction(predictions[0], merged)


def _hand_over(objects: ViewObjects, regions: NDArray[np.float64]) -> ViewObjects:
    """Drop pieces that another view shows with fewer cuts; that one inherits their certainty."""
    num_cuts = objects.cut.sum(axis=1)
    scores = objects.scores.copy()
    alive = np.ones(len(objects), np.bool_)
    pieces = np.flatnonzero(num_cuts)
    # Most cut first: what they are handed to may be a piece itself.
    for i in pieces[np.lexsort((-scores[pieces], -num_cuts[pieces]))]:
        # It is cut where the piece is cut too, if at all, and reaches as far there.
        reaches = (objects.xyxy - objects.xyxy[i]) * OUTWARD >= -objects.margin
        candidates = np.flatnonzero(
            alive
            & ~(objects.views & objects.views[i]).any(axis=1)
            & ~(objects.cut & ~(objects.cut[i] & reaches)).any(axis=1)
            & (num_cuts < num_cuts[i])
            & (scores >= _MIN_SCORE_SHARE * scores[i])
        )
        window = regions[objects.views[i].argmax()]
        same = candidates[agreement(objects, i, candidates, window) >= _SAME]
        if len(same):
            heir = same[scores[same].argmax()]
            scores[heir] = max(scores[heir], scores[i])
            alive[i] = False
    return objects.with_scores(scores).at(np.flatnonzero(alive))


def _unite(
    objects: ViewObjects, regions: NDArray[np.float64], size: tuple[int, int], max_points: int
) -> ViewObjects:
    """Replace pieces that meet at a seam by the whole that they make."""
    group = np.arange(len(objects))
    for i, j in _meeting_pairs(objects, regions):
        group[group == group[j]] = group[i]
    num_members = np.bincount(group, minlength=len(objects))
    result = objects.at(np.flatnonzero(num_members[group] == 1))
    for leader in np.flatnonzero(num_members > 1):
        pieces = objects.at(np.flatnonzero(group == leader))
        result = result.joined(_whole_of(pieces, size, max_points))
    return result


def _meeting_pairs(objects: ViewObjects, regions: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return pieces that continue each other, each by at most one in a neighbouring tile."""
    view = objects.views.argmax(axis=1)
    taken: set[tuple[int, int]] = set()
    pairs = []
    for _, i, j in sorted(_alike_at_seams(objects, regions, view), reverse=True):
        ends = {(i, int(view[j])), (j, int(view[i]))}
        if not ends & taken:
            taken |= ends
            pairs.append((i, j))
    return pairs


def _alike_at_seams(
    objects: ViewObjects, regions: NDArray[np.float64], view: NDArray[np.int64]
) -> Iterator[tuple[float, int, int]]:
    """Yield (agreement, a piece, the piece in the next tile that may continue it)."""
    for side, opposite in ((_RIGHT, _LEFT), (_BOTTOM, _TOP)):
        facing = np.flatnonzero(objects.cut[:, opposite])
        starts = regions[view[facing], opposite]
        for i in np.flatnonzero(objects.cut[:, side]):
            here = regions[view[i]]
            # The neighbour begins further on, but not after this tile has ended.
            is_next = (starts > here[opposite]) & (starts <= here[side] + objects.margin[side])
            for neighbour in np.unique(view[facing[is_next]]):
                others = facing[is_next & (view[facing] == neighbour)]
                alike = agreement(objects, int(i), others, _intersection(here, regions[neighbour]))
                for place in np.flatnonzero(alike >= _SAME):
                    yield float(alike[place]), int(i), int(others[place])


def _intersection(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection of two regions; neighbours that do not overlap share a line."""
    lower, upper = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    return np.concatenate([np.minimum(lower, upper), np.maximum(lower, upper)])


def _whole_of(pieces: ViewObjects, size: tuple[int, int], max_points: int) -> ViewObjects:
    """Return the one object that pieces make."""
    box = np.concatenate([pieces.xyxy[:, :2].min(axis=0), pieces.xyxy[:, 2:].max(axis=0)])
    # Cut is what is cut at the very end; elsewhere another piece goes on.
    at_end = np.asarray((box - pieces.xyxy) * OUTWARD <= pieces.margin)
    best = pieces.at(np.array([pieces.scores.argmax()]))
    polygons: list[Polygon] | None = None
    if pieces.polygons is not None:
        sides_px = (box[2:] - box[:2]) * (size[1], size[0])
        width, height = (int(side) for side in np.ceil(sides_px))
        polygons = [union_outline(pieces.polygons, box, (height, width), max_points)]
    return ViewObjects(
        xyxy=box[None],
        scores=best.scores,
        classes=best.classes,
        views=np.any(pieces.views, axis=0, keepdims=True),
        cut=np.any(pieces.cut & at_end, axis=0, keepdims=True),
        polygons=polygons,
        margin=pieces.margin,
    )


def _most_certain(objects: ViewObjects, threshold: float) -> NDArray[np.int64]:
    """Return the objects that are no other view of a more certain one."""
    # At equal scores the object with fewer cuts comes first.
    waiting = np.lexsort((objects.cut.sum(axis=1), -objects.scores))
    kept = []
    while len(waiting):
        i, waiting = waiting[0], waiting[1:]
        kept.append(i)
        elsewhere = np.flatnonzero(~(objects.views[waiting] & objects.views[i]).any(axis=1))
        others = waiting[elsewhere]
        doubles = overlap(objects, i, others) > threshold
        doubles |= objects.cut[others].any(axis=1) & (share_within(objects, i, others) >= _WITHIN)
        waiting = np.delete(waiting, elsewhere[doubles])
    return np.array(kept, np.int64)


def _as_prediction(like: PredictionT, objects: ViewObjects) -> PredictionT:
    changes: dict[str, Any] = {
        "xyxy_frac": objects.xyxy.astype(np.float32),
        "scores": objects.scores.astype(np.float32),
        "classes": objects.classes,
    }
    if isinstance(like, Instances):
        changes["polygons"] = tuple(objects.polygons or ())
    return replace(like, **changes)
