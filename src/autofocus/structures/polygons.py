"""Outlines of objects: rings of points, exclusive or where they overlap.

Area convention: pixel (i, j) covers [j, j + 1] x [i, i + 1] and belongs to an outline when its
centre lies inside. Multiplying fractions by (width, height) gives such coordinates. COCO's
`frPyObjects` means the same but rounds points to fifths of a pixel: where outlines keep to pixel
edges both draw the same, elsewhere they differ only within 0.2 pixels of the outline.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.predictions import Polygon


def from_wire(rings: Sequence[Sequence[float]]) -> Polygon:
    """Return flat lists `[x1, y1, x2, y2, …]` as rings of points."""
    return tuple(np.asarray(ring, np.float32).reshape(-1, 2) for ring in rings)


def outline_box(polygon: Polygon) -> NDArray[np.float32]:
    """Return the box [4] around all rings, in their unit; zeros where there is no ring."""
    if not polygon:
        return np.zeros(4, np.float32)
    points = np.concatenate(polygon)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def rasterize(polygons: Sequence[Polygon], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the masks of outlines given in fractions, at any resolution.

    Args:
        polygons: m outlines, in fractions of whatever the masks show.
        size: (height, width) of the masks.

    Returns:
        uint8 [m, height, width] of 0 and 1.
    """
    masks = np.zeros((len(polygons), *size), np.uint8)
    windows = pixel_windows(polygons, size)
    for mask, (left, top, right, bottom), crop in zip(
        masks, windows, rasterize_windows(polygons, size, windows), strict=True
    ):
        mask[top:bottom, left:right] = crop
    return masks


def pixel_windows(polygons: Sequence[Polygon], size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the pixels (left, top, right, bottom) around each outline, [m, 4], cut to `size`."""
    height, width = size
    if not polygons:
        return np.zeros((0, 4), np.int64)
    boxes = np.stack([outline_box(polygon) for polygon in polygons]).astype(np.float64)
    low = np.clip(np.floor(boxes[:, :2] * (width, height)), 0, (width, height))
    high = np.clip(np.ceil(boxes[:, 2:] * (width, height)), low, (width, height))
    return np.concatenate([low, high], axis=1).astype(np.int64)


def rasterize_windows(
    polygons: Sequence[Polygon], size: tuple[int, int], windows: NDArray[np.int64]
) -> list[NDArray[np.uint8]]:
    """Return the part of each outline's mask that its window shows: no full-size bitmaps.

    Args:
        polygons: m outlines, in fractions.
        size: (height, width) that fractions are multiplied by.
        windows: [m, 4] pixels (left, top, right, bottom), inside or outside `size`.

    Returns:
        m masks, uint8 [bottom - top, right - left] of 0 and 1.
    """
    widths, heights = windows[:, 2] - windows[:, 0], windows[:, 3] - windows[:, 1]
    # A column more than shown: what lies right of the window ends there, not in the next row.
    strides = widths + 1
    starts = np.concatenate([[0], np.cumsum(strides * heights)])
    crossed = np.zeros(starts[-1], np.uint8)
    owner, row, column = _crossings(polygons, size, windows)
    left, top = windows[owner, 0], windows[owner, 1]
    column = np.clip(column - left, 0, widths[owner])
    np.bitwise_xor.at(crossed, starts[owner] + (row - top) * strides[owner] + column, 1)
    # Every ring crosses a row an even number of times: no row leaks into the next.
    inside = np.bitwise_xor.accumulate(crossed)
    return [
        inside[start : start + height * (width + 1)].reshape(height, width + 1)[:, :width]
        for start, height, width in zip(starts, heights, widths, strict=False)
    ]


def _crossings(
    polygons: Sequence[Polygon], size: tuple[int, int], windows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (outline, row, first column whose centre is not left of it) of every crossing."""
    owner, begin, end = _edges(polygons, size)
    upper = np.where((begin[:, 1] <= end[:, 1])[:, None], begin, end)
    lower = np.where((begin[:, 1] <= end[:, 1])[:, None], end, begin)
    tops, bottoms = windows[owner, 1], windows[owner, 3]
    first = np.clip(np.ceil(upper[:, 1] - 0.5).astype(np.int64), tops, bottoms)
    last = np.clip(np.ceil(lower[:, 1] - 0.5).astype(np.int64), tops, bottoms)
    num_rows = last - first
    edge = np.repeat(np.arange(len(owner)), num_rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(num_rows) - num_rows, num_rows) + first[edge]
    crossing = num_rows > 0
    slope = np.zeros(len(owner))
    dx, dy = (lower - upper)[crossing].T
    slope[crossing] = dx / dy
    x = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * slope[edge]
    return owner[edge], row, np.ceil(x - 0.5).astype(np.int64)


def _edges(
    polygons: Sequence[Polygon], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the outline, begin and end of every edge, in pixels of `size`."""
    rings = [(index, ring) for index, polygon in enumerate(polygons) for ring in polygon]
    if not rings:
        return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, 2))
    lengths = np.array([len(ring) for _, ring in rings])
    begin = np.concatenate([ring for _, ring in rings]).astype(np.float64)
    # Far outside is as good as any outside, and stays an integer.
    begin = np.clip(begin, -10, 11) * (size[1], size[0])
    owner = np.repeat([index for index, _ in rings], lengths)
    following = np.arange(1, len(begin) + 1)
    ends = np.cumsum(lengths)
    following[ends[lengths > 0] - 1] = (ends - lengths)[lengths > 0]
    return owner, begin, begin[following]


def polygon_iou(a: Polygon, b: Polygon, resolution: int = 64) -> float:
    """Return the overlap of two outlines on a coarse raster over both; 1 if both are empty."""
    rings = (*a, *b)
    if not rings:
        return 1.0
    low, high = np.split(outline_box(rings), 2)
    scale = np.maximum(high - low, np.finfo(np.float32).tiny)
    fitted = [tuple((ring - low) / scale for ring in polygon) for polygon in (a, b)]
    first, second = rasterize(fitted, (resolution, resolution)) > 0
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0
