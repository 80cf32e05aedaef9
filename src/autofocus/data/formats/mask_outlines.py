"""Masks of objects, from files or run lengths, as outlines: rings `[x1, y1, …]` in pixels."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autofocus.errors import ImageError
from autofocus.structures.contours import mask_rings
from autofocus.structures.masks import decode_rle
from autofocus.structures.polygons import rasterize

FlatRings = list[list[float]]

# Labels are kept as they are drawn, each pixel of them: a crowd has hundreds of small parts. Only
# answers are bounded, and rid of specks.
_MAX_POINTS = 100_000


def outline_of_mask(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> FlatRings:
    """Return the rings around a mask [h, w] whose first pixel is at (left, top)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return []
    window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    offset = np.array([left + columns[0], top + rows[0]], np.float32)
    rings = mask_rings(window, _MAX_POINTS, speck_frac=0.0)
    return [(ring + offset).ravel().tolist() for ring in rings]


def united(rings: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> FlatRings | None:
    """Return the outline of what rings cover together, None where no two of them overlap.

    Args:
        rings: [p, 2] points of each, in pixels.
        size: (height, width) of the image; rings that leave it are left as they are.
    """
    lows = np.array([ring.min(axis=0) for ring in rings])
    highs = np.array([ring.max(axis=0) for ring in rings])
    if (lows < -1).any() or (highs > np.array(size[::-1]) + 1).any():
        return None
    meet = (lows[:, None] < highs[None]).all(axis=2) & (lows[None] < highs[:, None]).all(axis=2)
    if meet.sum() == len(rings):  # each meets itself
        return None
    start = np.floor(lows.min(axis=0))
    width, height = (int(side) for side in np.ceil(highs.max(axis=0) - start))
    covered = np.zeros((height, width), np.bool_)
    is_overlapping = False
    for ring in rings:
        placed = ((ring - start) / (width, height)).astype(np.float32)
        mask = rasterize([(placed,)], (height, width))[0].astype(np.bool_)
        is_overlapping |= bool((covered & mask).any())
        covered |= mask
    return outline_of_mask(covered, int(start[0]), int(start[1])) if is_overlapping else None


def outlines_of_ids(ids: NDArray[Any]) -> dict[int, FlatRings]:
    """Return the rings around each id of a map [h, w] where 0 is no object, by id."""
    rows, columns = np.nonzero(ids)
    values = ids[rows, columns]
    order = np.argsort(values, kind="stable")
    rows, columns = rows[order], columns[order]
    numbers, starts = np.unique(values[order], return_index=True)
    ends = np.append(starts, len(rows))[1:]
    outlines = {}
    for number, start, end in zip(numbers, starts, ends, strict=True):
        top, bottom = rows[start:end].min(), rows[start:end].max() + 1
        left, right = columns[start:end].min(), columns[start:end].max() + 1
        window = ids[top:bottom, left:right] == number
        outlines[int(number)] = outline_of_mask(window, int(left), int(top))
    return outlines


def outlines_of_parts(ids: NDArray[Any]) -> Iterator[tuple[int, FlatRings]]:
    """Yield the number and the rings of each connected part of a map [h, w], 0 left out."""
    for number in np.unique(ids[ids != 0]):
        _, parts = cv2.connectedComponents((ids == number).astype(np.uint8), connectivity=8)
        for rings in outlines_of_ids(parts).values():
            yield int(number), rings


def outline_of_rle(rle: dict[str, Any], size: tuple[int, int]) -> FlatRings:
    """Return the rings around COCO's run lengths of an image of `size` (height, width).

    Raises:
        ValueError: If it is no such thing, of another size, or empty.
    """
    said = rle.get("size")
    if said != list(size):
        raise ValueError(f"its size must be the image's {list(size)}, got {said}")
    counts = rle.get("counts")
    is_list = isinstance(counts, list) and all(type(run) is int for run in counts)
    if not is_list and not isinstance(counts, str):
        raise ValueError("its counts must be whole numbers, or their short text")
    rings = outline_of_mask(decode_rle(rle).astype(np.bool_))
    if not rings:
        raise ValueError("it has no pixel inside")
    return rings


def read_mask(file: Path, size: tuple[int, int]) -> NDArray[Any]:
    """Return a mask's numbers [h, w].

    Args:
        file: PNG, TIFF or another image without loss, of one channel or of equal ones.
        size: (height, width) of the image that it belongs to.

    Raises:
        ImageError: If it is no such thing; its message is the predicate of a sentence.
    """
    try:
        with warnings.catch_warnings():
            # The size was compared with an image that was allowed.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if image.size != size[::-1]:
                    said = f"{size[1]} x {size[0]}, got {image.width} x {image.height}"
                    raise ImageError("mask.size", f"must have the image's size {said}")
                pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError("mask.invalid", f"must be an image: {error}") from error
    if pixels.ndim == 3:
        colors = pixels[..., :3]
        if (colors != colors[..., :1]).any():
            rule = "must have one channel of numbers, not colours"
            raise ImageError("mask.channels", rule)
        pixels = colors[..., 0]
    if pixels.dtype.kind == "f" and (pixels % 1).any():
        raise ImageError("mask.invalid", "must hold whole numbers")
    return pixels
