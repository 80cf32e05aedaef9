"""Views of images with outlined objects: outlines move as points and become pixels last.

They are drawn at the resolution that the loss needs, so three hundred objects take 8 MB where
bitmaps of the canvas, 640 pixels wide, would take 120.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.box_views import BoxViews, PlacedImage, canvas_boxes, cut_boxes
from autofocus.data.batches.warp import transform_points
from autofocus.structures.polygons import outline_box, rasterize
from autofocus.structures.predictions import Polygon
from autofocus.structures.ring_clipping import clip_rings, ring_area
from autofocus.structures.targets import MaskTarget, OutlineTarget

# A `Polygon` in pixels of the canvas.
CanvasPolygon = tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class OutlineViews(BoxViews):
    """Canvases with the masks of what they show; boxes are those of the outlines' visible parts.

    Attributes:
        spec: Size and normalisation of the network's input.
        targets: One an image.
        augmentation: Ranges that views are drawn from; None gives what `preprocess` gives.
        stride: Pixels of the canvas along one cell of a mask.
    """

    targets: Sequence[OutlineTarget]
    stride: int = 4

    def _target(self, placed: Sequence[PlacedImage], size: tuple[int, int]) -> MaskTarget:
        """Return the target of a canvas of `size`."""
        boxes, classes = [], []
        polygons: list[CanvasPolygon] = []
        for image in placed:
            target = self.targets[image.index]
            which = np.array(
                [i for i, rings in enumerate(target.polygons) if rings and not target.is_crowd[i]],
                np.int64,
            )
            parts, visible, fracs = cut_outlines([target.polygons[i] for i in which], image)
            found = self.is_found(visible, fracs)
            polygons.extend(parts[i] for i in np.flatnonzero(found))
            boxes.append(visible[found])
            classes.append(target.classes[which[found]])
        fields = canvas_boxes(boxes, classes, size)
        return MaskTarget(*fields, masks=draw_masks(polygons, fields[0], size, self.stride))


def cut_outlines(
    polygons: Sequence[Polygon], image: PlacedImage
) -> tuple[list[CanvasPolygon], NDArray[np.float64], NDArray[np.float64]]:
    """Return the parts of outlines that lie within their image's rectangle of the canvas.

    Args:
        polygons: m outlines, in fractions of the image.
        image: The image and its place on the canvas.

    Returns:
        The visible outlines in pixels of the canvas, the boxes [m, 4] around them, and the share
        [m] of each outline's area that is visible.
    """
    if not polygons:
        return [], np.zeros((0, 4)), np.zeros(0)
    height, width = image.size
    rings = [ring for polygon in polygons for ring in polygon]
    points = np.concatenate(rings) * np.array([width, height], np.float64)
    moved = transform_points(image.placement.matrix, points)
    ends = np.cumsum([len(ring) for ring in rings])
    split = iter(np.split(moved, ends[:-1]))
    outlines = [tuple(next(split) for _ in polygon) for polygon in polygons]
    starts = np.cumsum([0, *(sum(map(len, polygon)) for polygon in polygons[:-1])])
    boxes = np.concatenate(
        [np.minimum.reduceat(moved, starts), np.maximum.reduceat(moved, starts)], axis=1
    )
    visible, fracs = cut_boxes(boxes, image.placement.rect)
    rect = image.placement.rect
    origin, extent = np.array([rect.left, rect.top]), np.array([rect.width, rect.height])
    for i in np.flatnonzero((fracs > 0) & (fracs < 1)):
        whole = [(ring - origin) / extent for ring in outlines[i]]
        part = clip_rings(whole)
        fracs[i] = ring_area(part) / max(ring_area(whole), 1e-12)
        box = outline_box(part) if part else np.zeros(4)
        visible[i] = box * np.tile(extent, 2) + np.tile(origin, 2)
        outlines[i] = tuple(ring * extent + origin for ring in part)
    return outlines, visible, fracs


def draw_masks(
    polygons: Sequence[CanvasPolygon],
    xyxy_frac: NDArray[np.float32],
    size: tuple[int, int],
    stride: int,
) -> NDArray[np.uint8]:
    """Return the masks of outlines, uint8 [m, height / stride, width / stride], none of them empty.

    Args:
        polygons: m outlines, in pixels of the canvas.
        xyxy_frac: [m, 4], their boxes, in fractions of the canvas.
        size: (height, width) of the canvas, multiples of `stride`.
        stride: Pixels of the canvas along one cell.
    """
    height, width = size
    assert height % stride == width % stride == 0, f"{size} is not a multiple of {stride}"
    fractions = [
        tuple((ring / (width, height)).astype(np.float32) for ring in rings) for rings in polygons
    ]
    cells = height // stride, width // stride
    masks = rasterize(fractions, cells)
    # An object that holds no cell's centre gets the cell that holds its own.
    for i in np.flatnonzero(~masks.any(axis=(1, 2))):
        left, top, right, bottom = xyxy_frac[i].tolist()
        row, column = int((top + bottom) / 2 * cells[0]), int((left + right) / 2 * cells[1])
        masks[i, min(row, cells[0] - 1), min(column, cells[1] - 1)] = 1
    return masks
