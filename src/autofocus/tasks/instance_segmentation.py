"""Instance segmentation: an image carries any number of outlined objects, each of one class."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.data.rows.records import InstanceSegmentationRecord
from autofocus.metrics.detection import match_outlines, outlines_of, segmentation_metrics
from autofocus.metrics.matching import Matches
from autofocus.settings.fields import Reader
from autofocus.structures.contours import mask_rings
from autofocus.structures.frames import Frame
from autofocus.structures.polygons import from_wire, outline_box, polygon_iou
from autofocus.structures.predictions import Instances, Polygon
from autofocus.structures.targets import OutlineTarget
from autofocus.tasks.base import Settings, Targets
from autofocus.tasks.objects import ObjectsTask, Selection, class_index, rounded, stated_size
from autofocus.tasks.responses import comparable_pairs

# One pixel more or less at the rim of a small mask is no difference: an overlap of 0.95 counts
# as a score that differs by 0.001.
MASK_SCALE = 0.02
# Longer side at which an object is drawn at most, in pixels: memory does not grow with the image.
MAX_DRAWN_SIDE = 512


class InstanceSegmentation(ObjectsTask[InstanceSegmentationRecord, Instances]):
    """Outlines of objects."""

    name = "image_instance_segmentation"
    model_kind = "instance segmenter"
    reads: ClassVar[frozenset[Reader]] = frozenset({"objects", "outlines"})
    record_type = InstanceSegmentationRecord
    default_values: ClassVar[dict[str, float | str]] = {
        **ObjectsTask.default_values,
        "mask_pixel_score_threshold": 0.5,
        "max_number_of_polygon_points": 100,
    }

    def encode_targets(
        self, records: Sequence[InstanceSegmentationRecord], labels: Sequence[str]
    ) -> list[OutlineTarget]:
        """Return one target a record, crowds marked, each box the one around its outline."""
        index = class_index(labels)
        return [_target(record, index) for record in records]

    def build(
        self,
        selection: Selection,
        candidates: Mapping[str, NDArray[Any]],
        frame: Frame,
        settings: Settings,
    ) -> Instances:
        """Return the selected objects that have an outline.

        Args:
            selection: The candidates that are objects.
            candidates: Also `box_masks` [c, s, s], probabilities within each candidate's box, or
                `masks` [c, h', w'], probabilities over the canvas.
            frame: Position of the canvas in the image.
            settings: Settings of the manifest.
        """
        threshold = self.number(settings, "mask_pixel_score_threshold")
        max_points = max(3, int(self.number(settings, "max_number_of_polygon_points")))
        outlines: list[Polygon]
        if "box_masks" in candidates:
            masks = candidates["box_masks"][selection.rows]
            outlines = [
                outline_in_box(mask, box, frame.size, threshold, max_points)
                for mask, box in zip(masks, selection.placed, strict=True)
            ]
        else:
            masks = candidates["masks"][selection.rows]
            outlines = [outline_on_canvas(mask, frame, threshold, max_points) for mask in masks]
        has_outline = np.array([bool(outline) for outline in outlines], np.bool_)
        rows = selection.rows[has_outline]
        return Instances(
            selection.xyxy_frac[has_outline],
            candidates["scores"][rows],
            candidates["classes"][rows],
            frame.size,
            tuple(outline for outline in outlines if outline),
        )

    def encode(self, prediction: Instances, labels: Sequence[str]) -> dict[str, Any]:
        """Return detection's response with `"polygon": [[x1, y1, x2, y2, …], …]` in each object."""
        response = super().encode(prediction, labels)
        for item, outline in zip(response["boxes"], prediction.polygons, strict=True):
            item["polygon"] = [rounded(ring.ravel()) for ring in outline]
        return response

    def evaluate(
        self,
        predictions: Sequence[Instances],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> dict[str, Any]:
        """Return the published metrics of masks (`reference/azure.md` §3.2) and COCO's."""
        sized = self.sized(targets, predictions)
        return segmentation_metrics(predictions, sized, labels, **self.metric_options(settings))

    def match(
        self,
        predictions: Sequence[Instances],
        targets: Sequence[OutlineTarget],
        labels: Sequence[str],
        settings: Settings,
    ) -> Matches:
        """See `ObjectsTask.match`; by the overlap of masks."""
        iou_threshold, outlines = self.iou_threshold(settings), outlines_of(predictions, targets)
        return match_outlines(predictions, targets, outlines, len(labels), iou_threshold)

    def wire_difference(self, left: dict[str, Any], right: dict[str, Any]) -> float:
        """Return detection's difference, or the scaled 1 - IoU of the outlines, if larger."""
        apart = 0.0
        pairs, *_ = comparable_pairs(left["boxes"], right["boxes"])
        for i, j in pairs:
            first = from_wire(left["boxes"][i]["polygon"])
            second = from_wire(right["boxes"][j]["polygon"])
            apart = max(apart, 1 - polygon_iou(first, second))
        return max(super().wire_difference(left, right), MASK_SCALE * apart)


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
        max_points: Most points of a ring.

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
    drawn = np.minimum(high - low, MAX_DRAWN_SIDE).astype(int)
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


def _target(record: InstanceSegmentationRecord, index: Mapping[str, int]) -> OutlineTarget:
    polygons = tuple(from_wire(item.polygon) for item in record.label)
    boxes = [outline_box(polygon) for polygon in polygons]
    return OutlineTarget(
        xyxy_frac=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array([index[item.label] for item in record.label], np.int64),
        is_crowd=np.array([item.is_crowd for item in record.label], np.bool_),
        size=stated_size(record.image_details),
        polygons=polygons,
    )
