"""Where labelled objects lie on a network's canvas: what the pointing game is played on."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autofocus.data.rows.records import (
    BoxLabel,
    DetectionRecord,
    ImageRecord,
    InstanceSegmentationRecord,
    PolygonLabel,
)
from autofocus.structures.frames import Frame
from autofocus.structures.polygons import from_wire, rasterize
from autofocus.structures.predictions import Polygon

# The most exact first.
PLACED_RECORDS: Final = (InstanceSegmentationRecord, DetectionRecord)


def class_masks(
    record: ImageRecord, labels: Sequence[str], frame: Frame, size: tuple[int, int]
) -> dict[int, NDArray[np.bool_]]:
    """Return where each class's objects are, by index in `labels`, bool [h, w].

    Classes that are not among `labels`, or have no pixel on the canvas, are left out.

    Args:
        record: With boxes or outlines.
        labels: The model's.
        frame: Where the canvas lies in the image.
        size: (height, width) of the canvas, in pixels.
    """
    assert isinstance(record, PLACED_RECORDS)
    found = {}
    for index, label in enumerate(labels):
        outlines = [_on_canvas(item, frame) for item in record.label if item.label == label]
        if outlines and (mask := rasterize(outlines, size).any(axis=0)).any():
            found[index] = np.asarray(mask, np.bool_)
    return found


def _on_canvas(item: BoxLabel | PolygonLabel, frame: Frame) -> Polygon:
    left, top, right, bottom = frame.region
    rings = from_wire(item.polygon) if isinstance(item, PolygonLabel) else (_corners(item),)
    placed = ((ring - (left, top)) / (right - left, bottom - top) for ring in rings)
    return tuple(ring.astype(np.float32) for ring in placed)


def _corners(box: BoxLabel) -> NDArray[np.float32]:
    return np.array(
        [
            (box.top_x, box.top_y),
            (box.bottom_x, box.top_y),
            (box.bottom_x, box.bottom_y),
            (box.top_x, box.bottom_y),
        ],
        np.float32,
    )
