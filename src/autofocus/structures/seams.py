"""Objects as several views of one image saw them, and whether two of them are the same object.

A view is the whole image or a tile. Where an object's box ends at a tile's edge within the image,
the object is *cut* there: what lies beyond was not seen. Two objects are compared by what both
views saw: within the window that the views share, and as if what is cut went on.

Notation for array shapes:
    - m, p: number of objects
    - v: number of views
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.boxes import box_iou
from autofocus.structures.outline_pixels import outline_iou
from autofocus.structures.predictions import Detections, Instances, Polygon

# A box that comes this near to a tile's edge, in sides of the tile, is cut there: a few pixels of
# what the network saw, its error at an edge.
EDGE_FRAC: Final = 0.01
# Windows thinner than this many margins are too thin to compare outlines in.
_THIN: Final = 3
# From a box to a larger one.
OUTWARD: Final = np.array([-1.0, -1.0, 1.0, 1.0])

Box = NDArray[np.float64]  # (left, top, right, bottom) in fractions of the image


@dataclass(frozen=True)
class ViewObjects:
    """Objects that the views of one image show.

    Attributes:
        xyxy: float64 [m, 4], in fractions of the image, within what the view shows.
        scores: float64 [m].
        classes: int64 [m].
        views: bool [m, v], which views an object was made from.
        cut: bool [m, 4], on which sides (left, top, right, bottom) a view's edge cuts it.
        polygons: m outlines, or None where objects are boxes.
        margin: float64 [4], how near each side comes to a view's edge to be cut there.
    """

    xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    views: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    polygons: list[Polygon] | None
    margin: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, index: NDArray[np.int64]) -> "ViewObjects":
        """Return the objects at these positions."""
        polygons = None if self.polygons is None else [self.polygons[i] for i in index]
        return ViewObjects(
            self.xyxy[index],
            self.scores[index],
            self.classes[index],
            self.views[index],
            self.cut[index],
            polygons,
            self.margin,
        )

    def joined(self, other: "ViewObjects") -> "ViewObjects":
        """Return these objects and then the others."""
        polygons = None
        if self.polygons is not None and other.polygons is not None:
            polygons = self.polygons + other.polygons
        return ViewObjects(
            np.concatenate([self.xyxy, other.xyxy]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.classes, other.classes]),
            np.concatenate([self.views, other.views]),
            np.concatenate([self.cut, other.cut]),
            polygons,
            self.margin,
        )

    def with_scores(self, scores: NDArray[np.float64]) -> "ViewObjects":
        """Return the objects with other scores."""
        return replace(self, scores=scores)


def gather(predictions: Sequence[Detections], regions: NDArray[np.float64]) -> ViewObjects:
    """Return the objects of v views.

    Args:
        predictions: One a view, in fractions of the image.
        regions: [v, 4], what each view shows of the image.
    """
    view = np.repeat(np.arange(len(predictions)), [len(found) for found in predictions])
    lower, upper = regions[view][:, [0, 1, 0, 1]], regions[view][:, [2, 3, 2, 3]]
    xyxy = np.concatenate([found.xyxy_frac for found in predictions]).astype(np.float64)
    xyxy = np.minimum(np.maximum(xyxy, lower), upper)
    spans = (regions[:, 2:] - regions[:, :2]).min(axis=0)
    margin = EDGE_FRAC * np.concatenate([spans, spans])
    from_edge = (regions[view] - xyxy) * OUTWARD
    at_image_edge = np.isclose(regions, (0, 0, 1, 1))[view]
    outlined = [found for found in predictions if isinstance(found, Instances)]
    return ViewObjects(
        xyxy=xyxy,
        scores=np.concatenate([found.scores for found in predictions]).astype(np.float64),
        classes=np.concatenate([found.classes for found in predictions]),
        views=view[:, None] == np.arange(len(predictions)),
        cut=(from_edge <= margin) & ~at_image_edge,
        polygons=[rings for found in outlined for rings in found.polygons] if outlined else None,
        margin=margin,
    )


def agreement(
    objects: ViewObjects, i: int, others: NDArray[np.int64], window: Box
) -> NDArray[np.float64]:
    """Return the intersection over union of one object with others within a window.

    Args:
        objects: All objects.
        i: Position of the one.
        others: Positions of p others.
        window: Region that the views share. Where tiles only touch it has no
            width: then the objects' edges at it are compared.

    Returns:
        float64 [p]; of outlines where the objects have them and the window is wide enough, else
        of boxes.
    """
    # A cut object goes on beyond the edge, by as much as a box may be off there.
    beyond = objects.xyxy + objects.cut * objects.margin * OUTWARD
    wide = window + objects.margin * OUTWARD
    overlaps = box_iou(_clip(beyond[i : i + 1], wide), _clip(beyond[others], wide))[0]
    return (
        overlaps if objects.polygons is None else _of_outlines(objects, i, others, window, overlaps)
    )


def overlap(objects: ViewObjects, i: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the intersection over union of one whole object with others, float64 [p]."""
    overlaps = box_iou(objects.xyxy[i : i + 1], objects.xyxy[others])[0]
    image = np.array([0.0, 0.0, 1.0, 1.0])
    return (
        overlaps if objects.polygons is None else _of_outlines(objects, i, others, image, overlaps)
    )


def share_within(objects: ViewObjects, i: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the shares of the others' boxes within the box of one object, float64 [p]."""
    boxes = objects.xyxy[others]
    areas = _areas(boxes)
    return np.asarray(_areas(_clip(boxes, objects.xyxy[i])) / np.where(areas > 0, areas, 1))


def _of_outlines(
    objects: ViewObjects,
    i: int,
    others: NDArray[np.int64],
    window: Box,
    overlaps: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Replace the overlaps of boxes that meet by those of their outlines, where these can tell."""
    assert objects.polygons is not None, "objects have outlines"
    result = overlaps.copy()
    for place in np.flatnonzero(overlaps > 0):
        j = others[place]
        around = np.concatenate(
            [
                np.minimum(objects.xyxy[i, :2], objects.xyxy[j, :2]),
                np.maximum(objects.xyxy[i, 2:], objects.xyxy[j, 2:]),
            ]
        )
        shared = _clip(around[None], window)[0]
        if (shared[2:] - shared[:2] >= _THIN * objects.margin[:2]).all():
            result[place] = outline_iou(objects.polygons[i], objects.polygons[j], shared)
    return result


def _clip(xyxy: NDArray[np.float64], window: Box) -> NDArray[np.float64]:
    """Return boxes [..., 4] cut to a window; those outside become empty, without area."""
    lower, upper = window[[0, 1, 0, 1]], window[[2, 3, 2, 3]]
    return np.minimum(np.maximum(xyxy, lower), np.maximum(lower, upper))


def _areas(xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1]))
