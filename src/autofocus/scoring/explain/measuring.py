"""Photos on which explanations are measured, and masks of their labelled objects. No torch."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autofocus.data.images.fetch import open_bytes
from autofocus.data.rows.records import BoxLabel, ObjectsRecord, PolygonLabel
from autofocus.data.sources.read import Data
from autofocus.errors import InputError
from autofocus.explain.base import FoundBoxes
from autofocus.explain.measures import Mask
from autofocus.explain.parameters import Parameters
from autofocus.structures.boxes import box_iou
from autofocus.structures.frames import Frame
from autofocus.structures.polygons import from_wire, rasterize
from autofocus.structures.predictions import Polygon
from autofocus.structures.targets import BoxTarget, OutlineTarget

log = logging.getLogger(__name__)

# Least IoU of a found box and the labelled object of its class that it found.
_SAME_OBJECT_IOU: Final = 0.5


@dataclass(frozen=True)
class Measuring:
    """Options of measuring explanations.

    Attributes:
        parameters: Parameters of every algorithm, `xai_algorithm` aside.
        max_images: Number of photos sampled from the data.
        seed: Seed of the sample and of everything else at random.
    """

    parameters: Parameters
    max_images: int
    seed: int = 0


def sample_photos(data: Data[Any], measuring: Measuring) -> Iterator[tuple[Any, bytes]]:
    """Yield records sampled without replacement and their files, the same for the same seed."""
    order = np.random.default_rng(measuring.seed).permutation(len(data.locations))
    for index in order[: measuring.max_images]:
        try:
            yield data.records[index], open_bytes(data.locations[index])
        except InputError as error:
            log.warning("%s; left out", error)


def class_masks(
    record: ObjectsRecord, labels: Sequence[str], frame: Frame, size: tuple[int, int]
) -> dict[int, Mask]:
    """Return the pixels of each class's objects, by index in `labels`, bool [h, w].

    Classes that are not among `labels`, or have no pixel on the canvas, are left out.

    Args:
        record: A record with boxes or outlines.
        labels: Classes of the model.
        frame: Position of the canvas in the image.
        size: (height, width) of the canvas, in pixels.
    """
    found = {}
    for index, label in enumerate(labels):
        outlines = [_on_canvas(item, frame) for item in record.label if item.label == label]
        if outlines and (mask := rasterize(outlines, size).any(axis=0)).any():
            found[index] = np.asarray(mask, np.bool_)
    return found


def object_masks(target: BoxTarget, boxes: FoundBoxes, size: tuple[int, ...]) -> list[Mask | None]:
    """Return the pixels of the labelled object that each found box found, bool [h, w], or None.

    Args:
        target: Labelled objects of the image.
        boxes: t boxes that were found.
        size: (height, width) of the masks, in pixels.
    """
    overlaps = box_iou(boxes.xyxy_frac, target.xyxy_frac)  # [t, m]
    overlaps = overlaps * (boxes.classes[:, None] == target.classes) * ~target.is_crowd
    masks: list[Mask | None] = []
    for row in overlaps:
        is_found = len(row) > 0 and row.max() >= _SAME_OBJECT_IOU
        masks.append(_object_mask(target, int(row.argmax()), size) if is_found else None)
    return masks


def box_mask(xyxy_frac: Sequence[float] | NDArray[np.float32], size: tuple[int, int]) -> Mask:
    """Return the pixels in a box in fractions, at least one, bool [h, w]."""
    height, width = size
    left, top, right, bottom = np.array(xyxy_frac) * (width, height, width, height)
    first = int(min(top, height - 1)), int(min(left, width - 1))
    mask: NDArray[np.bool_] = np.zeros(size, np.bool_)
    mask[
        first[0] : max(first[0] + 1, round(bottom)), first[1] : max(first[1] + 1, round(right))
    ] = True
    return mask


def _object_mask(target: BoxTarget, i: int, size: tuple[int, ...]) -> Mask:
    height, width = size
    if isinstance(target, OutlineTarget):
        (pixels,) = rasterize([target.polygons[i]], (height, width))
        if pixels.any():
            return np.asarray(pixels, np.bool_)
    return box_mask(target.xyxy_frac[i], (height, width))


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
